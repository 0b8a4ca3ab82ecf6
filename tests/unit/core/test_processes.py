"""A process is told by its start, and a stretch of time by a clock that nobody sets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lorefuse.core.processes import boot_clock_s, boot_id, identity, run_ns


def test_a_process_keeps_its_identity_and_another_has_its_own() -> None:
    assert identity(os.getpid()) == identity(os.getpid())
    assert identity(os.getpid()).startswith(boot_id())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert identity(other.pid) != identity(os.getpid())
        other.communicate(b"\n")
    with pytest.raises(OSError, match=str(other.pid)):
        identity(other.pid)


def test_work_is_counted_and_a_process_that_is_gone_has_none() -> None:
    before = run_ns(os.getpid())
    sum(range(2_000_000))
    assert run_ns(os.getpid()) > before
    assert run_ns(2**22 + 1) == 0


def test_the_clock_of_the_machine_goes_on() -> None:
    assert boot_clock_s() <= boot_clock_s()
