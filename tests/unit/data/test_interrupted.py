"""A disk that fills up, a process that is killed: nothing half-written is left or trusted, a later run succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorefuse.core.atomic import sha256_folder
from tests.unit.data.conftest import Shop

KILL = -1
SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
from lorefuse.config import DataConfig, FileSource
from lorefuse.data.ingest import ingest
from lorefuse.core.errors import ArtifactError
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import reuse_or_build

folder, max_bytes = Path(sys.argv[1]), int(sys.argv[2])
source = FileSource(interactions_path=folder / "interactions.csv", items_path=folder / "items.csv", timestamp_unit="s")
config = DataConfig(source=source)

def build(path):
    if max_bytes > 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    manifest = ingest(config, path)
    if max_bytes < 0:
        (path / "items.parquet").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return manifest

try:
    result = reuse_or_build("ingest", config={}, inputs={}, rooms=("data",), build=build)
    print("built", sorted(p.name for p in result.path.iterdir()))
except ArtifactError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def run(shop: Shop, home_path: Path, max_bytes: int) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LOREFUSE_HOME": str(home_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(shop.path), str(max_bytes)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def big(shop: Shop) -> None:
    shop.write_rows(*[f"user-{n},i{1 + n % 3},{1 + n % 5},{n}" for n in range(20_000)])


def check_that_it_fails_cleanly(shop: Shop, home_path: Path, max_bytes: int) -> None:
    done = run(shop, home_path, max_bytes)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in ("could not write its result", "expected:", "got:", "fix: free space"):
        assert word in done.stdout
    assert not any(path.is_file() for path in home_path.rglob("*"))


def test_no_file_may_grow(shop: Shop, tmp_path: Path) -> None:
    big(shop)
    check_that_it_fails_cleanly(shop, tmp_path / "home", 20_000)
    done = run(shop, tmp_path / "home", 0)
    assert done.returncode == 0, done.stderr
    assert "interactions.parquet" in done.stdout


def test_a_small_disk_is_full(shop: Shop, tmp_path: Path) -> None:
    big(shop)
    home_path = tmp_path / "home"
    home_path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(home_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        check_that_it_fails_cleanly(shop, home_path, 0)
    finally:
        subprocess.run(["umount", str(home_path)], check=True)


def test_a_killed_run_leaves_nothing_that_a_later_run_trusts(shop: Shop, tmp_path: Path) -> None:
    big(shop)
    killed = run(shop, tmp_path / "home", KILL)
    assert killed.returncode == -signal.SIGKILL
    done = run(shop, tmp_path / "home", 0)
    undisturbed = run(shop, tmp_path / "elsewhere", 0)
    assert done.returncode == 0, done.stderr
    first, second = (next((tmp_path / home / "cache/steps/ingest").glob("[!.]*")) for home in ("home", "elsewhere"))
    assert sha256_folder(first) == sha256_folder(second)
    assert undisturbed.stdout == done.stdout
