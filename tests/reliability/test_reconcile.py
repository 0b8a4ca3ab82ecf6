"""The alias decides what Triton answers, whoever sets it: real registry, real Triton, real requests."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.environment import PeerUnavailableError
from benchmarks.peers.load import PerfAnalyzer
from lorefuse.client import Client
from lorefuse.client.admin import VARIABLE
from lorefuse.core.errors import LorefuseError
from lorefuse.deploy.control import Control
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.remote import RemoteServer
from lorefuse.deploy.state import Stage
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.deploy.verify import verify_ready
from lorefuse.export.signature import STABLE
from lorefuse.registry.deployment import request, roll_back
from tests.reliability.conftest import NAME, Harness, Registry, eventually, settled

Bundles = tuple[Path, Path]


class Load:
    """Steady requests of all users from two clients; keeps when which version answered whom."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[float, float, str, int]] = []
        self.errors: list[str] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        with Client(self.url, max_retries=0) as client:
            number = 0
            while not self._done.is_set():
                number += 1
                user, start_s = f"u{number % 30}", time.monotonic()
                try:
                    version = int(client.recommend(user, 5).model_version)
                except LorefuseError as error:
                    self.errors.append(str(error))
                    continue
                self.answers.append((start_s, time.monotonic(), user, version))

    def versions_by_user(self, since_s: float, until_s: float) -> dict[str, set[int]]:
        """Return which versions answered each user, in requests that lie between two moments."""
        found: dict[str, set[int]] = {}
        for start_s, end_s, user, version in self.answers:
            if since_s < start_s and end_s < until_s:
                found.setdefault(user, set()).add(version)
        return found


def trial_of(harness: Harness, reconciler: Reconciler, stage: Stage) -> tuple[float, float]:
    """Wait for a trial to begin and to end; return two moments between which the router answered everybody."""
    assert eventually(lambda: reconciler.states[0].stage == stage)
    began_s = ended_s = time.monotonic()
    # The router's config is gone from the repository before anything else is loaded in its place.
    while harness.supervisor.repository.trial is not None:
        ended_s = time.monotonic()
        time.sleep(0.005)
    return began_s, ended_s


def test_the_alias_is_followed_and_written_back(harness: Harness, registry: Registry, bundles: Bundles) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    reconciler = harness.start()
    assert eventually(lambda: reconciler.states[0].reason == "no version is champion yet")
    registry.champion(first)
    settled(reconciler, first)
    assert Client(harness.supervisor.url).recommend("u3").model_version == first
    registry.champion(second)
    settled(reconciler, second)
    assert Client(harness.supervisor.url).recommend("u3").model_version == second
    assert eventually(lambda: registry.tags(second).get("state") == "live")
    assert eventually(lambda: registry.tags(first).get("state") == "standby")
    tags = registry.tags(second)
    assert tags["triton_version"].count(".") == 2
    assert json.loads(tags["servers"]) == {"local": "live"}
    assert tags["time"] > "2020"
    assert reconciler.states[0].previous == int(first)


@contextlib.contextmanager
def perf_analyzer(supervisor: Supervisor, folder_path: Path) -> Iterator[None]:
    """Triton's own load generator beside ours, where it can be installed; no request of its may fail."""
    users = [f"u{number}" for number in range(30)]
    try:
        load = PerfAnalyzer(supervisor.url, users, folder_path, supervisor.python_path)
    except PeerUnavailableError as error:
        warnings.warn(f"perf_analyzer is missing, our own client is the only load: {error}", stacklevel=2)
        yield
        return
    with load:
        yield
        code, rates, said = load.stop()
        assert code == 0, said  # 99 where a request failed
        assert len(rates) > 3
        assert min(rates) > 0


def test_twenty_promotions_and_five_rollbacks_under_load(
    harness: Harness, registry: Registry, bundles: Bundles, din_bundle: Path, tmp_path: Path
) -> None:
    """Two versions of one family and one of another, whose parts have other tensors."""
    versions = [registry.publish(path) for path in (*bundles, din_bundle)]
    registry.champion(versions[0])
    reconciler = harness.start()
    settled(reconciler, versions[0])
    live: list[tuple[float, int]] = [(0.0, int(versions[0]))]
    with perf_analyzer(harness.supervisor, tmp_path), Load(harness.supervisor.url) as load:
        for number in range(1, 26):
            if number % 5 == 0:
                _, version = roll_back(NAME)
            else:
                version = versions[(versions.index(str(live[-1][1])) + 1) % 3]
                registry.champion(version)
            live.append((time.monotonic(), int(version)))
            settled(reconciler, version)
            assert eventually(lambda version=version: registry.tags(version).get("state") == "live")
        ended_s = time.monotonic()
    assert load.errors == []
    assert len(load.answers) > 100
    for start_s, end_s, _, version in load.answers:
        # Live between the moment it was asked for and the moment the next one was settled.
        spans = [(since_s, live[n + 2][0] if n + 2 < len(live) else ended_s + 60) for n, (since_s, v) in enumerate(live) if v == version]  # fmt: skip # noqa: E501
        assert any(since_s <= end_s and start_s <= until_s for since_s, until_s in spans), version


def test_a_canary_of_another_family_answers_its_share_and_then_all(
    harness: Harness, registry: Registry, bundles: Bundles, din_bundle: Path
) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(din_bundle)
    registry.champion(first)
    guard = {"min_requests": 30, "max_p99_ratio": 1000.0, "max_score_shift": 1000.0}
    reconciler = harness.start(canary_s=3, canary_share=0.4, guard=guard)
    settled(reconciler, first)
    with Load(harness.supervisor.url) as load:
        registry.champion(second)
        by_user = load.versions_by_user(*trial_of(harness, reconciler, Stage.CANARY))
        settled(reconciler, second)
    assert load.errors == []
    assert {len(versions) for versions in by_user.values()} == {1}, "a user's version must not change in a trial"
    assert len(by_user) >= 20
    assert 0 < sum(int(second) in versions for versions in by_user.values()) < len(by_user)
    assert "passed its trial" in reconciler.states[0].reason
    assert harness.supervisor.repository.trial is None
    assert "recommend_canary" not in Control(harness.supervisor.url, harness.supervisor.admin_key).versions()


def test_a_canary_with_other_scores_is_rolled_back_and_promoted_by_hand(
    harness: Harness, registry: Registry, bundles: Bundles
) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    registry.champion(first)
    guard = {"min_requests": 5, "max_p99_ratio": 1000.0, "max_score_shift": 1e-6}
    reconciler = harness.start(canary_s=600, canary_share=0.5, guard=guard)
    settled(reconciler, first)
    with Load(harness.supervisor.url) as load:
        registry.champion(second)
        assert eventually(lambda: second in reconciler.states[0].verdicts)
        assert eventually(lambda: registry.tags(second).get("state") == "rolled_back")
        assert "standard deviations" in registry.tags(second)["reason"]
        assert (reconciler.states[0].stage, reconciler.states[0].actual) == (Stage.LIVE, int(first))
        # Asked for again it is tried again, and asked for during its trial it takes over.
        reconciler.config.guard.__dict__["max_score_shift"] = 1000.0
        request(NAME, second)
        assert eventually(lambda: reconciler.states[0].stage == Stage.CANARY)
        request(NAME, second)
        settled(reconciler, second)
    assert load.errors == []
    assert reconciler.states[0].reason == "promoted by hand during its trial"


def test_a_shadow_is_compared_and_never_heard(harness: Harness, registry: Registry, bundles: Bundles) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    registry.champion(first)
    guard = {"min_requests": 30, "max_p99_ratio": 1000.0, "max_score_shift": 1000.0}
    reconciler = harness.start(shadow_s=2, guard=guard)
    settled(reconciler, first)
    with Load(harness.supervisor.url) as load:
        registry.champion(second)
        by_user = load.versions_by_user(*trial_of(harness, reconciler, Stage.SHADOW))
        settled(reconciler, second)
    assert load.errors == []
    assert len(by_user) >= 20
    assert set().union(*by_user.values()) == {int(first)}
    lines = [json.loads(line) for line in (harness.supervisor.serve_path / "shadow.jsonl").read_text().splitlines()]
    assert len(lines) >= 30
    assert all(0 <= line["overlap"] <= 1 for line in lines)
    assert not any("u3" in str(line) for line in lines), "users are written down as hashes"
    assert "of the items are the same" in reconciler.states[0].reason


def test_an_alias_taken_back_ends_a_trial(
    harness: Harness, registry: Registry, bundles: Bundles, din_bundle: Path
) -> None:
    first, second = registry.publish(bundles[0]), registry.publish(din_bundle)
    registry.champion(first)
    reconciler = harness.start(canary_s=600)
    settled(reconciler, first)
    registry.champion(second)
    assert eventually(lambda: reconciler.states[0].stage == Stage.CANARY)
    verify_ready(harness.supervisor.url, harness.supervisor.repository, int(first), front=STABLE)
    assert roll_back(NAME) == (second, first)
    settled(reconciler, first)
    assert harness.supervisor.repository.trial is None
    assert eventually(lambda: registry.tags(second).get("state") == "rolled_back")


def test_replicas_are_followed_each_on_its_own(
    harness: Harness, registry: Registry, bundles: Bundles, new_supervisor: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replica is down when the alias moves: the other one goes ahead, and it catches up when it is back.

    At first the reconciler has no key, which is nobody's fault but its own: no version is refused for it.
    """
    monkeypatch.setenv(VARIABLE, "the-key-of-all-replicas")
    here, there = harness.supervisor, new_supervisor()  # type: ignore[operator]
    here.start(), there.start()
    servers = [
        RemoteServer(name, one.url, one.metrics_url, one.repository) for name, one in (("a", here), ("b", there))
    ]
    first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
    registry.champion(first)
    config = harness.start().config
    harness.close()
    reconciler = Reconciler(config, servers, here.serve_path)
    monkeypatch.delenv(VARIABLE)
    reconciler.start()
    harness.made.append(reconciler)
    assert eventually(lambda: all("no key" in state.problem for state in reconciler.states))
    monkeypatch.setenv(VARIABLE, "the-key-of-all-replicas")
    settled(reconciler, first)
    there.stop()
    registry.champion(second)
    assert eventually(
        lambda: reconciler.states[0].actual == int(second) and "not answer" in reconciler.states[1].problem
    )
    assert eventually(lambda: registry.tags(second).get("state") == "canary")
    assert "1 of 2" in registry.tags(second)["reason"]
    there.start()
    settled(reconciler, second)
    assert {Client(one.url).recommend("u3").model_version for one in (here, there)} == {second}
    assert eventually(lambda: registry.tags(second).get("state") == "live")
