"""One server follows the registry: keep it alive, compare what is with what should be, and take the next step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from lorefuse.config import DeploymentConfig
from lorefuse.core.errors import ArtifactError, DeployError, LorefuseError, OverdueError, UnreachableError
from lorefuse.deploy import guard
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import note_sources
from lorefuse.deploy.desired import Desired
from lorefuse.deploy.fronts import drop_trial, force, restore_parts
from lorefuse.deploy.remote import Server
from lorefuse.deploy.renew import renew
from lorefuse.deploy.rollout import Rollout
from lorefuse.deploy.state import STATE_FILE, ServerState, Stage, Verdict, load_state, now, save_state
from lorefuse.deploy.watch import StillBrokenError, Watchdog
from lorefuse.export.model_repository import Trial
from lorefuse.export.signature import CANARY

MAX_BACKOFF_S = 30.0
SHADOW_FILE = "shadow.jsonl"
Report = Callable[[str, int, Stage, str], None]
"""Called with server, version, stage and reason whenever a version's stage on a server changes."""
_log = logging.getLogger(__name__)


def state_path(server: Server) -> Path:
    """Where the state of a server is kept: beside its model repository."""
    return server.repository.beside(STATE_FILE)


class Follower:
    """Moves one server towards what the registry wants, one `tick` at a time.

    Args:
        server: The server.
        config: How careful to be.
        report: Told of every change.

    Attributes:
        looked_at_s: When the last `tick` ended, Unix time.
    """

    def __init__(self, server: Server, config: DeploymentConfig, report: Report) -> None:
        self.server, self.config, self.report = server, config, report
        self.watchdog = Watchdog(server)
        self.num_failures, self.retry_at_s, self.looked_at_s = 0, 0.0, 0.0
        self.state = load_state(state_path(server), server.name)

    def tick(self, desired: Desired | None, registry_problem: str = "") -> ServerState:
        """Look after the server once; whatever goes wrong is in the state's `problem`, and a later tick tries again.

        Args:
            desired: What the registry wants; None where no version is champion, or the registry was never reached.
            registry_problem: Why the registry does not say; empty where it does.
        """
        try:
            with self.server.repository.lock():
                self.state = load_state(state_path(self.server), self.server.name)
                before = asdict(self.state)
                self.state.registry = registry_problem
                self._attempt(desired)
                self.state.actual = self.server.repository.active
                if asdict(self.state) != before:
                    save_state(state_path(self.server), self.state)
        except OSError as error:  # a full disk: the state cannot be written, the server goes on
            self._note_problem(str(error))
        self.looked_at_s = time.time()
        return self.state

    def _attempt(self, desired: Desired | None) -> None:
        try:
            try:
                restore_parts(self.server)
                self.watchdog.look()
            except StillBrokenError as error:
                self._fall_back(str(error))
            if time.monotonic() >= self.retry_at_s:
                self._follow(desired)
                self.state.problem, self.num_failures = "", 0
        except (LorefuseError, OSError) as error:
            self._note_problem(str(error))
            self.num_failures += 1
            self.retry_at_s = time.monotonic() + min(MAX_BACKOFF_S, 0.5 * 2**self.num_failures)

    def _note_problem(self, problem: str) -> None:
        if problem != self.state.problem:
            _log.warning("%s: %s", self.server.name, problem)
        self.state.problem = problem

    def _fall_back(self, why: str) -> None:
        """Return to the version before, where the active one does not serve even after a restart."""
        active, previous = self.server.repository.active, self.state.previous
        on_disk = previous is not None and self.server.repository.has(previous)
        if active is None or previous is None or not on_disk or previous == active:
            raise DeployError(f"Version {active} does not answer, and there is none to go back to.", got=why)
        reason = f"it stopped answering: {why}"
        digest, request = self._digest(active), self.state.request
        force(self.server, previous)
        self.state.verdicts[str(active)] = Verdict(Stage.ROLLED_BACK, reason, digest, request, now())
        self.state.enter(Stage.LIVE, f"version {active} was taken back: it stopped answering", previous=None)
        self.report(self.server.name, active, Stage.ROLLED_BACK, reason)

    def _follow(self, desired: Desired | None) -> None:
        active = self.server.repository.active
        trial = self.server.repository.trial
        if trial is not None:
            self._continue_trial(trial, desired)
            return
        if (self.server.repository.path / CANARY).is_dir():  # a roll-out that was killed
            drop_trial(self.server)
        if self.state.candidate is not None:
            self.state.enter(Stage.LIVE, "a trial ended from outside", candidate=None, share=0.0)
        if desired is None:
            reason = "no version is champion: what is served stays" if active else "no version is champion yet"
            self._settle(Stage.LIVE if active else Stage.EMPTY, reason)
            return
        moved = self.state.desired != desired.version
        self.state.desired = desired.version
        verdict = self.state.verdicts.get(str(desired.version))
        if verdict and (verdict.digest, verdict.request) == (desired.digest, desired.request):
            return
        if active == desired.version and self._digest(active) == desired.digest:
            if moved or self.state.stage != Stage.LIVE or self.state.request != desired.request:
                news = renew(self._rollout(desired), desired) if self.state.request and not moved else ""
                self.state.request = desired.request
                self._live(desired.version, news or "it answers", None if news else self.state.previous)
            return
        if desired.defect or desired.bundle_path is None or desired.store_path is None:
            self._refuse(desired, Stage.REJECTED, desired.defect or "its files are not here")
            return
        self._deploy(desired, desired.bundle_path, desired.store_path, active)

    def _settle(self, stage: Stage, reason: str) -> None:
        if (self.state.stage, self.state.reason) != (stage, reason):
            self.state.enter(stage, reason)

    def _deploy(self, desired: Desired, bundle_path: Path, store_path: Path, active: int | None) -> None:
        self.state.request = desired.request
        rollout = self._rollout(desired)
        try:
            self.server.repository.add(bundle_path, store_path, desired.version)
            if not rollout.fits_beside():
                rollout.replace()
                self._live(desired.version, "it replaced a version that it could not stand beside", None)
            else:
                rollout.bring_beside()
                returning = desired.version == self.state.previous
                if active is not None and not returning and (self.config.shadow_s or self.config.canary_s):
                    self._try(rollout, desired, Stage.SHADOW if self.config.shadow_s else Stage.CANARY)
                    return
                rollout.switch()
                self._live(desired.version, "it returned" if returning else "it was verified", active)
            note_sources(self.server, bundle_path, store_path, desired.version)
        except UnreachableError:
            raise
        except OverdueError:  # a busy server says nothing about the version: tried again
            if rollout.fits_beside() and active != desired.version:
                rollout.withdraw(active)
            raise
        except (ArtifactError, DeployError) as error:
            if not Control(self.server.url).is_live():
                raise  # the server's fault, not the version's: tried again once it is back
            if rollout.fits_beside() and active != desired.version:
                rollout.withdraw(active)
            self._refuse(desired, Stage.REJECTED, str(error))

    def _rollout(self, desired: Desired) -> Rollout:
        return Rollout(self.server, desired.version, self.config.max_latency_ratio, self.config.latency_slack_ms)

    def _try(self, rollout: Rollout, desired: Desired, stage: Stage) -> None:
        """Begin a stage of a trial."""
        shadow_path = self.server.repository.beside(SHADOW_FILE) if stage == Stage.SHADOW else None
        share = 0.0 if stage == Stage.SHADOW else self.config.canary_share
        rollout.start_trial(share, shadow_path)
        baseline = guard.scrape(self.server.metrics_url)
        changes = {"candidate": desired.version, "share": share, "baseline": baseline, "request": desired.request}
        self.state.enter(stage, "the trial began", **changes)
        self.report(self.server.name, desired.version, stage, f"{stage} since {self.state.since}")

    def _continue_trial(self, trial: Trial, desired: Desired | None) -> None:
        stage = Stage.CANARY if trial.shadow_path is None else Stage.SHADOW
        if desired is None or desired.bundle_path is None:
            return  # without the registry a trial can neither end well nor be known to be over
        rollout = self._rollout(desired)
        duration_s = self.config.shadow_s if stage == Stage.SHADOW else self.config.canary_s
        if desired.version != trial.canary or not duration_s:
            # The alias moved on, or back, or such trials are no longer wanted: the next tick follows the alias.
            Rollout(self.server, trial.canary).withdraw(trial.stable)
            self.state.enter(Stage.LIVE, f"the trial of version {trial.canary} ended", candidate=None, share=0.0)
            self.report(self.server.name, trial.canary, Stage.ROLLED_BACK, "its trial ended before it was over")
            return
        if self.state.candidate != trial.canary or self.state.stage != stage:  # the state was lost
            baseline = guard.scrape(self.server.metrics_url)
            changes = {"candidate": trial.canary, "share": trial.share, "baseline": baseline}
            self.state.enter(stage, "taken up again", request=desired.request, **changes)
        counts = guard.scrape(self.server.metrics_url)
        finding = guard.judge(self.state.baseline, counts, trial.stable, trial.canary, self.config.guard)
        self.state.reason = finding.reason
        asked_again = desired.request != self.state.request
        if finding.judgement == guard.Judgement.BAD:
            rollout.withdraw(trial.stable)
            self._refuse(desired, Stage.ROLLED_BACK, finding.reason)
        elif asked_again:
            self._promote(rollout, desired, trial.stable, "promoted by hand during its trial")
        elif finding.judgement == guard.Judgement.GOOD and self.state.elapsed_s() >= duration_s:
            if stage == Stage.SHADOW and self.config.canary_s:
                self._try(rollout, desired, Stage.CANARY)
            else:
                self._promote(rollout, desired, trial.stable, f"passed its trial: {finding.reason}")

    def _promote(self, rollout: Rollout, desired: Desired, stable: int, reason: str) -> None:
        try:
            rollout.switch()
        except DeployError as error:
            rollout.withdraw(stable)
            if isinstance(error, OverdueError):
                raise  # a busy server says nothing about the version: the trial begins anew
            self._refuse(desired, Stage.ROLLED_BACK, str(error))
            return
        self._live(desired.version, reason, stable)
        if desired.bundle_path is not None and desired.store_path is not None:
            note_sources(self.server, desired.bundle_path, desired.store_path, desired.version)

    def _live(self, version: int, reason: str, previous: int | None) -> None:
        self.state.verdicts.pop(str(version), None)
        self.state.enter(
            Stage.LIVE, reason, actual=version, previous=previous, candidate=None, share=0.0, baseline={}, problem=""
        )
        self.report(self.server.name, version, Stage.LIVE, reason)
        if previous is not None and str(previous) not in self.state.verdicts:
            self.report(self.server.name, previous, Stage.STANDBY, f"replaced by version {version}")

    def _refuse(self, desired: Desired, stage: Stage, reason: str) -> None:
        self.state.verdicts[str(desired.version)] = Verdict(stage, reason, desired.digest, desired.request, now())
        active = self.server.repository.active
        first_line = reason.splitlines()[0]
        word = "was taken back" if stage == Stage.ROLLED_BACK else "was refused"
        self.state.enter(
            Stage.LIVE if active else Stage.EMPTY,
            f"version {desired.version} {word}: {first_line}",
            candidate=None,
            share=0.0,
            baseline={},
        )
        self.report(self.server.name, desired.version, stage, reason)

    def _digest(self, version: int) -> str:
        try:
            return str(self.server.repository.answer(version).get("bundle_digest", ""))
        except ArtifactError:
            return ""
