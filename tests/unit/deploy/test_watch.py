"""When a server is dead, and when it is only busy. The server here is a fake: real ones are in tests/reliability."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.errors import DeployError, OverdueError, UnreachableError
from lorefuse.deploy import watch
from lorefuse.deploy.watch import StillBrokenError, Watchdog
from lorefuse.export.model_repository import ModelRepository

STEPS_NS = 1_000_000


@dataclass
class FakeServer:
    """Says what a test wants it to say."""

    name: str = "fake"
    url: str = "127.0.0.1:1"
    admin_key: str = ""
    metrics_url: str = ""
    repository: ModelRepository = field(default_factory=lambda: ModelRepository(Path()))
    num_restarts: int = 0
    is_gone: bool = False
    stopped: bool = False
    stuck: frozenset[int] = frozenset()
    ran_ns: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0, 2: 0})

    def start(self) -> dict[str, Any]:
        return {}

    def gone(self) -> bool:
        return self.is_gone

    def is_stopped(self) -> bool:
        return self.stopped

    def work_ns(self) -> dict[str, dict[int, int]]:
        for pid in self.ran_ns.keys() - self.stuck:
            self.ran_ns[pid] += STEPS_NS
        direct = {pid: ran for pid, ran in self.ran_ns.items() if pid}
        return {"direct": direct, "": {0: self.ran_ns[0]}}

    def restart(self) -> dict[str, Any]:
        self.num_restarts += 1
        self.is_gone = False
        return {}

    def log_tail(self) -> str:
        return ""


class Scene:
    """A watchdog, what its checks find, and how many others are answered during a look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = FakeServer()
        self.watchdog = Watchdog(self.server)
        self.found: DeployError | None = None
        self.per_look, self.answered, self.now_s = 0, 0, 1000.0
        monkeypatch.setattr(watch, "Control", lambda url: self)
        monkeypatch.setattr(watch, "num_answered", self.num_answered)
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(self.watchdog, "check", self.check)

    def is_live(self) -> bool:
        return True

    def num_answered(self, *_: object) -> float:
        self.answered += self.per_look
        return self.answered

    def check(self) -> None:
        if self.found is not None:
            raise self.found

    def look(self, times: int = 1, every_s: float = 2) -> None:
        for _ in range(times):
            self.now_s += every_s
            try:
                self.watchdog.look()
            except DeployError as error:
                if isinstance(error, StillBrokenError):
                    raise


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


OVERDUE = OverdueError("recommend gave no answer.", model="recommend")
WRONG = DeployError("recommend answers wrongly.")


def test_a_server_that_answers_others_is_busy_however_long(scene: Scene) -> None:
    scene.found, scene.per_look = OVERDUE, 100
    scene.look(times=500)
    assert scene.server.num_restarts == 0


def test_our_own_questions_are_no_progress(scene: Scene) -> None:
    scene.found, scene.per_look = OVERDUE, watch.NUM_PROBES + 1
    scene.look(times=watch.MISSES_OF_SILENCE)
    assert scene.server.num_restarts == 1


def test_silence_is_death_after_some_looks(scene: Scene) -> None:
    scene.found = OVERDUE
    scene.look(times=watch.MISSES_OF_SILENCE - 1)
    assert scene.server.num_restarts == 0
    scene.look()
    assert scene.server.num_restarts == 1


@pytest.mark.parametrize("every_s", [0.3, 2, 5])
@pytest.mark.parametrize("pid", [0, 2])
@pytest.mark.parametrize("found", [None, OVERDUE])
def test_a_process_that_stands_still_is_found_whoever_is_answered(
    scene: Scene, found: DeployError | None, pid: int, every_s: float
) -> None:
    scene.per_look, scene.found = 100, found
    scene.look(20, every_s)
    assert scene.server.num_restarts == 0
    scene.server.stuck = frozenset({pid})
    scene.look(20, every_s)
    assert scene.server.num_restarts >= 1


def test_a_process_that_stood_still_for_a_while_is_left_alone(scene: Scene) -> None:
    for _ in range(5):
        scene.server.stuck = frozenset({2})
        scene.look(12, 0.3)  # longer than one comparison, shorter than two
        scene.server.stuck = frozenset()
        scene.look(20, 0.3)
    assert scene.server.num_restarts == 0


def test_wrong_answers_need_two_looks_and_a_missing_process_none(scene: Scene) -> None:
    scene.found = WRONG
    with pytest.raises(StillBrokenError):
        scene.look(times=watch.MISSES_OF_WRONG_ANSWERS)
    assert scene.server.num_restarts == 1
    scene.now_s += watch.LONGEST_PAUSE_S
    scene.found, scene.server.is_gone = OVERDUE, True
    scene.look()
    assert scene.server.num_restarts == 2


def test_an_overdue_check_after_a_restart_blames_nobody(scene: Scene) -> None:
    scene.found, scene.server.is_gone = OVERDUE, True
    scene.look()  # a StillBrokenError would be raised here
    assert scene.server.num_restarts == 1


def test_restarts_come_more_rarely_until_a_look_succeeds(scene: Scene) -> None:
    scene.found = OVERDUE
    scene.look(times=100)
    assert 2 <= scene.server.num_restarts <= 6
    scene.found = None
    scene.look()
    scene.now_s += watch.LONGEST_PAUSE_S
    before = scene.server.num_restarts
    scene.found, scene.server.is_gone = OVERDUE, True
    scene.look()
    assert scene.server.num_restarts == before + 1
    scene.now_s += watch.FIRST_PAUSE_S
    scene.server.is_gone = True
    scene.look()
    assert scene.server.num_restarts == before + 2, "the pause is the first one again"


def test_what_was_stopped_on_purpose_stays_so(scene: Scene) -> None:
    scene.server.stopped = scene.server.is_gone = True
    with pytest.raises(UnreachableError, match="on purpose"):
        scene.watchdog.look()
    assert scene.server.num_restarts == 0
