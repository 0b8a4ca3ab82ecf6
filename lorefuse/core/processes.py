"""What tells a process, and a stretch of time, that no change of the clock can confuse."""

from __future__ import annotations

import time
from pathlib import Path

_BOOT_PATH = Path("/proc/sys/kernel/random/boot_id")
_STAT_START, _RUN_NS = 19, 0
"""Places in /proc/<pid>/stat behind the name, and in schedstat."""


def boot_id() -> str:
    """Return what names this start of the machine; empty where the system does not say."""
    try:
        return _BOOT_PATH.read_text("ascii").strip()
    except OSError:
        return ""


def boot_clock_s() -> float:
    """Return seconds since the machine started, sleep included; nobody can set this clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def identity(pid: int) -> str:
    """Return what no other process of this machine had or will have: its start in ticks, and this start of the machine.

    Raises:
        OSError: There is no such process.
    """
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    return f"{boot_id()}:{stat.rpartition(')')[2].split()[_STAT_START]}"


def run_ns(pid: int) -> int:
    """Return the nanoseconds that all threads of a process have run; 0 where it is gone."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0
    total = 0
    for thread in threads:
        try:
            total += int((thread / "schedstat").read_text("ascii").split()[_RUN_NS])
        except (OSError, ValueError):
            continue
    return total
