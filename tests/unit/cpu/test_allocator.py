"""Freed memory stays with the process: counted in page faults of one that takes and frees the same blocks again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from lorefuse.cpu.allocator import keep_freed_memory

BLOCK_BYTES, NUM_ROUNDS = 8 << 20, 20
PAGES = BLOCK_BYTES // os.sysconf("SC_PAGE_SIZE")
CHILD = f"""
import resource, sys
from lorefuse.cpu.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray({BLOCK_BYTES}), bytearray({BLOCK_BYTES}), bytearray({BLOCK_BYTES})
before = faults()
for _ in range({NUM_ROUNDS}):
    blocks = [b"x" * {BLOCK_BYTES} for _ in range(3)]
    del blocks
print(kept, faults() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc hands freed memory back")


def test_a_process_that_keeps_freed_memory_takes_no_new_pages() -> None:
    kept, num_faults = _run("keep")
    assert kept == "True"
    assert num_faults < 4 * PAGES  # the three blocks once, not in every round
    assert _run("plain")[1] > 10 * num_faults


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "LD_PRELOAD"])
def test_what_the_user_has_set_stays(name: str) -> None:
    assert _run("keep", {name: "" if name == "LD_PRELOAD" else "131072"})[0] == str(name == "LD_PRELOAD")


def test_asking_again_is_free() -> None:
    assert keep_freed_memory() is keep_freed_memory()


def _run(mode: str, environment: dict[str, str] | None = None) -> tuple[str, int]:
    command = [sys.executable, "-c", CHILD, mode]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=True
    )
    kept, num_faults = done.stdout.split()
    return kept, int(num_faults)
