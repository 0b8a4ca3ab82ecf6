"""Move one Triton server from the version that answers to another, in steps that can each be repeated.

::

    bring_beside   parts of the new version loaded beside the old ones, a front of its own, answers verified
    start_trial    the router takes over `recommend`: shadow, or a share of the users
    switch         `recommend` becomes the front of the new version; the old one stays loaded for an instant return
    withdraw       `recommend` is the front of the old version again, and nothing of the trial is left

A model of Triton's has one set of tensors, and versions of other families want others. `recommend` on a CPU rests on
`direct`, which asks for the same tensors whatever the model is, so such versions stand side by side there too: only
`ranker` and the other parts change over, at the switch. Where `recommend` is an ensemble of those parts (a GPU),
`replace` swaps them with a gap as long as the load.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorefuse.core.errors import DeployError, LorefuseError
from lorefuse.deploy.control import Control
from lorefuse.deploy.fronts import drop_trial, load_companions, load_parts
from lorefuse.deploy.remote import Server
from lorefuse.deploy.verify import median_latency_ms, verify_ready
from lorefuse.export.model_repository import ModelRepository, Trial
from lorefuse.export.signature import CANARY, DIRECT, RECOMMEND, STABLE


@dataclass(frozen=True)
class Rollout:
    """One version on its way to one server.

    Attributes:
        server: Where to.
        version: Its number.
        max_latency_ratio: Largest median latency, as a multiple of the version's that answers now.
        latency_slack_ms: Milliseconds that it may always take more.
    """

    server: Server
    version: int
    max_latency_ratio: float = 5.0
    latency_slack_ms: float = 10.0

    @property
    def control(self) -> Control:
        """A connection to the server."""
        return Control(self.server.url, self.server.admin_key)

    @property
    def repository(self) -> ModelRepository:
        """The server's model repository."""
        return self.server.repository

    @property
    def stable(self) -> int | None:
        """The version that answers now."""
        return self.repository.active

    def fits_beside(self) -> bool:
        """Tell whether the version can be loaded beside the one that answers, or there is none yet."""
        stable = self.stable
        if stable is None or stable == self.version:
            return stable is None
        differing = self.repository.differing_models(self.version, stable)
        if not differing:
            return differing is not None
        return not differing & {DIRECT, RECOMMEND} and self.control.steps(RECOMMEND) == [DIRECT]

    def bring_beside(self) -> dict[str, Any]:
        """Load the version beside the others, give it a front of its own, and check its answers against the references.

        Returns:
            The canary's report: max_score_difference, latency_ms.

        Raises:
            DeployError: It does not load, answers wrongly or too slowly; `recommend` was not touched.
        """
        stable, there = self.stable, self.repository.loaded_versions
        beside = [stable] if stable is not None else []
        # A version that is already loaded beside (an instant return) changes nothing in `direct`.
        keep = [number for number in there if number != self.version] if self.version in there else beside
        load_parts(self.server, [*keep, self.version], self.version)
        self.repository.configure_front(self.version, name=CANARY)
        self.control.load(CANARY)
        report = verify_ready(self.server.url, self.repository, self.version, front=CANARY)
        if stable is not None:
            self._hold_latency(report["latency_ms"])
        return report

    def start_trial(self, share: float, shadow_path: Path | None = None) -> None:
        """Let the router answer in place of the old front, which goes on under another name behind it."""
        stable = self.stable
        if stable is None:
            raise DeployError("A trial needs a version to compare with.", got="nothing is deployed")
        self.repository.configure_front(stable, name=STABLE)
        self.control.load(STABLE)
        self.repository.configure_router(Trial(stable, self.version, share, shadow_path))
        self.control.load(RECOMMEND)
        if self.repository.differing_models(self.version, stable):  # they are those of who answers most
            load_parts(self.server, [stable, self.version], stable)

    def switch(self) -> dict[str, Any]:
        """Let the version, which stands beside, answer everybody.

        Returns:
            The canary's report of what answers now.

        Raises:
            DeployError: It does not answer as it did; `withdraw` brings the old one back.
        """
        stable = self.stable
        keep = [stable] if stable is not None and stable != self.version else []
        if keep and self.repository.differing_models(self.version, keep[0]):
            load_parts(self.server, [*keep, self.version], self.version)
        self._load_front(self.version)
        report = verify_ready(self.server.url, self.repository, self.version)
        drop_trial(self.server)
        load_parts(self.server, [*keep, self.version], self.version)
        self.repository.prune([*keep, self.version])
        return report

    def withdraw(self, stable: int | None) -> None:
        """Make `stable` answer everybody again, and remove the version; where there was none, leave nothing loaded."""
        if stable is None:
            loaded = self.repository.all_configured()
            self.repository.restore_configs({})
            for name in loaded:
                with contextlib.suppress(DeployError):
                    self.control.unload(name)
            self.repository.remove(self.version)
            self.repository.remove_fronts([CANARY])
            return
        self._load_front(stable)
        drop_trial(self.server)
        keep = [number for number in self.repository.loaded_versions if number != self.version]
        load_parts(self.server, sorted({*keep, stable}), stable)
        self.repository.remove(self.version)
        verify_ready(self.server.url, self.repository, stable)

    def replace(self) -> dict[str, Any]:
        """Swap in a version that cannot stand beside the one that answers; nobody is answered while it loads.

        Other content under the number that answers is such a version too, but for the gap: Triton loads it beside.

        Raises:
            DeployError: It does not load or answers wrongly; the version before, or the content, was brought back.
        """
        before, stable = self.repository.configs(), self.stable
        try:
            load_parts(self.server, [self.version], self.version)
            verify_ready(self.server.url, self.repository, self.version, front=None)
            self._load_front(self.version)
            report = verify_ready(self.server.url, self.repository, self.version)
        except LorefuseError:
            self._restore(before, stable)
            raise
        self.repository.prune([self.version])
        return report

    def _restore(self, before: dict[Path, str], stable: int | None) -> None:
        if stable is not None and stable != self.version:
            self.repository.remove(self.version)
        elif stable is None or not self.repository.bring_back(self.version):
            self.withdraw(None)
            return
        self.repository.restore_configs(before)
        for name in (*self.repository.configured(), RECOMMEND):
            self.control.load(name)
        load_companions(self.server, stable)
        verify_ready(self.server.url, self.repository, stable)

    def _load_front(self, version: int) -> None:
        self.repository.configure_front(version)
        self.control.load(RECOMMEND)
        load_companions(self.server, version)

    def _hold_latency(self, latency_ms: float) -> None:
        running_ms = median_latency_ms(self.control, RECOMMEND)
        limit_ms = running_ms * self.max_latency_ratio + self.latency_slack_ms
        if latency_ms > limit_ms:
            raise DeployError(
                f"Version {self.version} is too slow.",
                expected=f"at most {limit_ms:.1f} ms (the running version takes {running_ms:.1f})",
                got=f"{latency_ms:.1f} ms",
                fix="make it smaller, or raise max_latency_ratio",
            )
