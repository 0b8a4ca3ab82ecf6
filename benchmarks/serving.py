"""How much does Triton cost over bare onnxruntime? `recommend` over gRPC at 1 and 8 clients, in-process beside it.

Needs a deployed model (`make demo`) and runs on the loopback address alone. Prints medians and tails per request and
requests per second; ratios travel between machines, the figures do not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lorefuse.client import Client
from lorefuse.contract import Tensor
from lorefuse.deploy.deploy import up
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.onnx import open_session
from lorefuse.export.repository import MODEL_FILE, REFERENCE_FILE
from lorefuse.export.signature import CATALOGUE_RANKER, FEATURES

NUM_WARMUP = 20


def measure(call: Callable[[int], object], num_requests: int, num_clients: int) -> dict[str, float]:
    """Send `num_requests` requests from `num_clients` threads and return p50_ms, p99_ms and requests_per_s."""

    def timed(number: int) -> float:
        start_s = time.perf_counter()
        call(number)
        return (time.perf_counter() - start_s) * 1000

    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(timed, range(NUM_WARMUP)))
        start_s = time.perf_counter()
        times_ms = list(pool.map(timed, range(num_requests)))
        elapsed_s = time.perf_counter() - start_s
    return {
        "p50_ms": float(np.median(times_ms)),
        "p99_ms": float(np.percentile(times_ms, 99)),
        "requests_per_s": num_requests / elapsed_s,
    }


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="requests per row of the table (at most 5000)")
    num_requests = min(parser.parse_args().requests, 5000)
    supervisor = Supervisor()
    was_running = supervisor.process() is not None
    facts = up(supervisor)
    if facts["version"] is None:
        print("benchmarks/serving.py: nothing is deployed; run `make demo` first")
        return
    try:
        _table(supervisor, int(facts["version"]), num_requests)
    finally:
        if not was_running:
            supervisor.stop()


def _table(supervisor: Supervisor, version: int, num_requests: int) -> None:
    from safetensors.numpy import load_file

    folder_path = supervisor.repository_path / CATALOGUE_RANKER / str(version)
    session = open_session(folder_path / MODEL_FILE)
    outputs = (Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value)
    reference = load_file(str(folder_path / REFERENCE_FILE))
    inputs = {name: array[:1] for name, array in reference.items() if name not in outputs}
    users = _user_ids(supervisor, version)
    with Client(supervisor.url) as client:
        ways: dict[str, Callable[[int], object]] = {
            "onnxruntime in-process, catalogue ranker alone": lambda n: session.run(list(outputs), inputs),
            "Triton, recommend (features, ranker, answer)": lambda n: client.recommend(users[n % len(users)], 10),
        }
        print(f"{'':48} clients  p50 ms  p99 ms  requests/s")
        for num_clients in (1, 8):
            rows = {name: measure(call, num_requests, num_clients) for name, call in ways.items()}
            for name, row in rows.items():
                times = f"{row['p50_ms']:7.2f} {row['p99_ms']:7.2f}"
                print(f"{name:48} {num_clients:7d} {times} {row['requests_per_s']:11.0f}")
            bare, full = rows.values()
            print(
                f"{'ratio: full path / in-process':48} {num_clients:7d} {full['p50_ms'] / bare['p50_ms']:7.2f} "
                f"{full['p99_ms'] / bare['p99_ms']:7.2f} {full['requests_per_s'] / bare['requests_per_s']:11.2f}"
            )


def _user_ids(supervisor: Supervisor, version: int) -> list[str]:
    import json

    path = supervisor.repository_path / FEATURES / str(version) / "features.json"
    fields = dict(json.loads(path.read_text("utf-8"))["user_fields"])
    return list(fields["user_id"])[:500] or ["nobody"]


if __name__ == "__main__":
    main()
