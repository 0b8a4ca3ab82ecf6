"""How long does the whole path take, and how much memory does it hold? First run, then a second one that reuses all.

Runs the demo's preset in a home of its own (downloads and encoder weights that are already on disk are used), without
the Triton deployment, which outlives the command. Memory is the sum over the command's processes of their proportional
set size, sampled twice a second.

    python benchmarks/demo.py [--config pipelines/configs/movielens_100k.yaml]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SAMPLE_S = 0.5


def main() -> None:
    """Print seconds and peak memory of both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "pipelines" / "configs" / "movielens_100k.yaml")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home_path = Path(folder) / "home"
        downloads_path = ROOT / ".lorefuse" / "cache" / "downloads"
        if downloads_path.is_dir():
            shutil.copytree(downloads_path, home_path / "cache" / "downloads")
        for name in ("first run", "second run"):
            elapsed_s, peak_bytes = measure(args.config, home_path)
            print(f"{name}: {elapsed_s:.1f} s, peak memory {peak_bytes / 2**30:.2f} GiB")


def measure(config_path: Path, home_path: Path) -> tuple[float, int]:
    """Run the preset once; return seconds and the highest sum of its processes' memory, in bytes."""
    command = [sys.executable, "-c", "from lorefuse.cli.main import main; main()", "run", "--config", str(config_path)]
    environment = {**os.environ, "LOREFUSE_HOME": str(home_path), "LOREFUSE_PROJECT": str(ROOT)}
    start_s, peak_bytes = time.perf_counter(), 0
    with subprocess.Popen([*command, "--no-deploy"], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, memory_of(process.pid))
            time.sleep(SAMPLE_S)
    if process.returncode:
        sys.exit(f"demo: the run ended with exit code {process.returncode}")
    return time.perf_counter() - start_s, peak_bytes


def memory_of(pid: int) -> int:
    """Return the proportional set size of a process and its children, in bytes; what has just ended counts nothing."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += int(process.memory_full_info().pss)
    return total


if __name__ == "__main__":
    main()
