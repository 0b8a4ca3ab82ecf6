"""How much of a training set does each process of a shared training read?

Two processes (gloo) train one epoch on more rows than `order.RUNS_ABOVE`, from a mapped file. In the end each says how
many pages of each array of the file it has touched, from /proc/self/smaps: what a process has not read it has not
mapped. Linux maps pages that are cached already by blocks of 16, so borders of runs count a little more than they are.

    python benchmarks/shared_rows.py [--num-rows 1100000] [--processes 2]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
from pathlib import Path
from typing import Any

ARRAYS = ("user_interest", "user_numeric", "item_numeric", "user_row", "item_row")
"""Arrays of rows; what all processes read of each row is its split, its state and its label, 9 bytes."""


def main() -> None:
    """Print the share of each array that each process has read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-rows", type=int, default=1_100_000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    import training

    training.NUM_USERS, training.NUM_ITEMS = 100_000, 20_000
    training.NUM_ROWS, training.NUM_TRAIN = args.num_rows, int(0.97 * args.num_rows)
    with tempfile.TemporaryDirectory() as folder:
        rows_path = Path(folder)
        training.synthetic(16, 0).save(rows_path)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533", "WORLD_SIZE": str(args.processes)}
        context = multiprocessing.get_context("spawn")
        with context.Manager() as manager:
            found: Any = manager.dict()
            processes = [context.Process(target=learn, args=(rows_path, n, found)) for n in range(args.processes)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            print("| array | " + " | ".join(f"process {rank}" for rank in sorted(found)) + " |")
            print("|---" * (len(found) + 1) + "|")
            for name in ARRAYS:
                print(f"| {name} | " + " | ".join(f"{found[rank][name]:.0%}" for rank in sorted(found)) + " |")


def learn(rows_path: Path, rank: int, found: Any) -> None:
    """Train one epoch's share; leave what was read in `found`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    from lorefuse.config import DeepFMConfig, TrainingConfig
    from lorefuse.training.ddp import process_group
    from lorefuse.training.train import train
    from lorefuse.training_set.arrays import TrainingSet

    with process_group("cpu"):
        training_set = TrainingSet.load(rows_path)
        train(training_set, DeepFMConfig(), TrainingConfig(max_epochs=1, num_threads=1))
        found[rank] = shares_read(rows_path / "training_set.safetensors")


def shares_read(path: Path) -> dict[str, float]:
    """Return the share of each array's pages that this process has mapped; arrays are mapped one by one."""
    with path.open("rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(start - 8))
    resident: dict[int, float] = {}
    offset: int | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        mapping = re.match(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+\s*(.*)$", line)
        if mapping:
            offset = int(mapping[1], 16) if mapping[2] == str(path) else None
        elif offset is not None and line.startswith("Rss:"):
            resident[offset] = resident.get(offset, 0) + 1024 * int(line.split()[1])
    shares = {}
    for name in ARRAYS:
        first, end = header[name]["data_offsets"]
        page = (start + first) // 4096 * 4096
        shares[name] = min(1.0, resident.get(page, 0) / (end - first))
    return shares


if __name__ == "__main__":
    main()
