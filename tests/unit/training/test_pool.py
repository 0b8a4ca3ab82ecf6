from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from lorefuse.core.errors import ConfigError, DataError, LorefuseError
from lorefuse.core.log import running
from lorefuse.training import pool
from lorefuse.training.pool import kept_workers, run_parallel
from lorefuse.training_set.arrays import ARRAYS_FILE


def _square(number: int) -> int:
    return number * number


def _pid(_: int) -> int:
    return os.getpid()


def _refuse(number: int) -> int:
    if number == 2:
        raise DataError("Two is refused.", expected="any other number", got="2", fix="take 3")
    return number


def _die(number: int) -> int:
    if number == 1:
        held = bytearray(b"1") * 400_000_000
        time.sleep(1)  # long enough for the parent to look
        assert held
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does to a process that is too large
    return number


def _leave(number: int) -> int:
    if number == 1:
        os._exit(3)
    return number


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_the_order_of_tasks(num_workers: int) -> None:
    assert list(run_parallel(_square, range(7), num_workers)) == [n * n for n in range(7)]
    assert list(run_parallel(_square, [], num_workers)) == []


def test_one_worker_is_this_process() -> None:
    assert set(run_parallel(_pid, range(3), 1)) == {os.getpid()}
    assert list(run_parallel(_pid, [0], 2)) == [os.getpid()]  # one task needs no other


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_workers_are_as_many_as_the_cores_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert set(run_parallel(_pid, range(3))) == {os.getpid()}
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_arrives_whole(num_workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(run_parallel(_refuse, range(4), num_workers))
    assert (caught.value.expected, caught.value.got, caught.value.fix) == ("any other number", "2", "take 3")
    assert str(caught.value).count("expected: any other number") == 1


def test_a_worker_that_was_killed_names_its_step_its_peak_and_what_would_make_it_fit() -> None:
    with pytest.raises(LorefuseError) as caught, running("evaluate"):
        list(run_parallel(_die, range(2), 2))
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert message.startswith("A process of the step evaluate was killed by the system (SIGKILL)")
    held = re.search(r"it had taken ([\d.]+) GB", message)
    assert held is not None
    assert 0.4 <= float(held[1]) < 2
    assert "LOREFUSE_MAX_LEARNERS=1" in message
    assert "steps.evaluate.memory_limit" in message


def test_another_end_is_named_as_it_was() -> None:
    with pytest.raises(LorefuseError, match=r"A process of the step training ended with exit code 3"):
        list(run_parallel(_leave, range(2), 2))


def test_no_more_learn_at_once_than_the_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "num_cores", lambda: 8)
    monkeypatch.setattr(pool, "free_bytes", lambda: int(100e9))
    for text, expected in (("1", 1), ("3", 3), ("0", 8), ("", 8), ("20", 8)):
        monkeypatch.setenv("LOREFUSE_MAX_LEARNERS", text)
        assert pool.num_learners(tmp_path) == expected
    monkeypatch.setenv("LOREFUSE_MAX_LEARNERS", "two")
    with pytest.raises(ConfigError, match="LOREFUSE_MAX_LEARNERS"):
        pool.num_learners(tmp_path)


def test_kept_workers_serve_several_calls_and_then_go() -> None:
    with kept_workers(2):
        pids = {pid for _ in range(4) for pid in run_parallel(_pid, range(4), 2)}
        assert 1 <= len(pids) <= 2
        with pytest.raises(DataError):
            list(run_parallel(_refuse, range(4), 2))
        assert set(run_parallel(_pid, range(4), 2)) <= pids  # an error of a task costs no process
    assert not pids & set(run_parallel(_pid, range(4), 2))


def test_as_many_learn_at_once_as_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / ARRAYS_FILE).open("wb") as file:
        file.truncate(2_000_000_000)  # 1.2 GB and 1.5 times that: 4.2 GB each
    monkeypatch.setattr(pool, "num_cores", lambda: 8)
    for free, expected in ((100e9, 8), (13e9, 3), (5e9, 1), (0.0, 1)):
        monkeypatch.setattr(pool, "free_bytes", lambda free=free: int(free))
        assert pool.num_learners(tmp_path) == expected


def test_a_containers_memory_counts_and_what_it_may_drop_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_CGROUP_PATH", tmp_path)
    of_the_machine = pool.free_bytes()
    assert of_the_machine > 0
    files = {"max": "3000000\n", "current": "2500000\n", "stat": "anon 1\ninactive_file 700000\n"}
    for name, text in files.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert pool.free_bytes() == 1_200_000
    (tmp_path / "memory.max").write_text("max\n")
    assert pool.free_bytes() > 3_000_000
