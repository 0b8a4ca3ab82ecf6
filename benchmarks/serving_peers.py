"""The whole path of `recommend` at 1 and 8 clients, beside what one would write without Lorefuse, in one run.

All servers stand at once and are asked in turn, round by round; a ratio is taken within a round, and the median over
rounds is printed with its range, since other work on the machine slows all of them. Ours is `recommend` over gRPC by
our own client, and again by Triton's perf_analyzer. Beside it: bare onnxruntime in this process (the same graph on a
user's ready features: no network, no store, no titles), FastAPI with torch and, written by hand, with onnxruntime, both
with features by Feast's SDK, pytriton's callable, and our own graph and reader behind FastAPI, which tell what the
server alone costs. All answer the same top ten; that is checked first.

Needs a deployed model: `make demo`. Runs on the loopback address alone.

    python benchmarks/serving_peers.py [--rounds 5] [--seconds 1.0] [--clients 1 8] [--peers ...]
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from peers.environment import PeerUnavailableError
from peers.load import Call, PerfAnalyzer, measure
from peers.servers import BARE, FASTAPI, OUR_PARTS, OURS, connect, user_ids
from verdict import give, spread

from lorefuse.deploy.deploy import up
from lorefuse.deploy.supervisor import Supervisor

LOADED = "Lorefuse, by perf_analyzer"
AHEAD = 1.0
Row = dict[str, float]


def main() -> None:
    """Measure and print one table per number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of requests to each server in a round")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--catalogue", default="the demo's items", help="its name in the verdict")
    parser.add_argument("--peers", nargs="*", choices=[*FASTAPI, "pytriton"], default=[*FASTAPI, "pytriton"])
    args = parser.parse_args()
    supervisor = Supervisor()
    was_running = supervisor.process() is not None
    version = up(supervisor)["version"]
    if version is None:
        print("serving_peers: nothing is deployed; run `make demo` first")
        return
    start_s, load = time.perf_counter(), os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            makers = connect(stack, supervisor, int(version), args.peers, Path(scratch))
            users = user_ids(supervisor, int(version))
            _check_equal(makers, users)
            for num_clients in args.clients:
                rounds = [
                    _round(makers, supervisor, users, Path(scratch), num_clients, args.seconds)
                    for _ in range(args.rounds)
                ]
                _print(rounds, num_clients)
                _give(rounds, num_clients, args.catalogue)
            if BARE in makers:
                _print_in_turn([_in_turn(makers, users, args.seconds) for _ in range(args.rounds)])
    finally:
        if not was_running:
            supervisor.stop()
    print(f"\n{len(os.sched_getaffinity(0))} cores, load {load:.1f} before, {os.getloadavg()[0]:.1f} after", end="; ")
    print(f"{args.rounds} rounds of {args.seconds:g} s, {time.perf_counter() - start_s:.0f} s in all")


def _check_equal(makers: dict[str, Callable[[], Call]], users: list[str]) -> None:
    """Ask everybody for the same users; who answers something else would be measured at other work."""
    expected = {user: makers[OURS]()(user) for user in users[:20]}
    for name, make in makers.items():
        if name == BARE:
            continue
        if name == FASTAPI["torch+feast"][0] and BARE not in makers:
            print(f"{name} scores every item, the others those that were found: other answers, more work")
            continue
        call = make()
        wrong = [user for user, items in expected.items() if call(user) != items]
        if wrong:
            sys.exit(f"serving_peers: {name} answers users {wrong[:5]} differently")


def _round(
    makers: dict[str, Callable[[], Call]],
    supervisor: Supervisor,
    users: list[str],
    scratch_path: Path,
    num_clients: int,
    seconds: float,
) -> dict[str, Row]:
    def by_number(make: Callable[[], Call]) -> Callable[[], Call]:
        def made() -> Call:
            call = make()
            return lambda number: call(users[number % len(users)])

        return made

    rows = {}
    for name, make in list(makers.items()):
        try:
            rows[name] = measure(by_number(make), num_clients, seconds)
        except (OSError, http.client.HTTPException) as error:  # e.g. the machine's memory does not suffice for it
            print(f"{name} broke down at {num_clients} clients: {type(error).__name__}")
            del makers[name]
    try:
        with PerfAnalyzer(supervisor.url, users, scratch_path, supervisor.python_path, num_clients=num_clients,
                          seconds=seconds) as load:  # fmt: skip
            rows[LOADED] = load.result()
    except PeerUnavailableError as error:
        print(f"perf_analyzer: SKIPPED, {error}")
    return rows


def _in_turn(makers: dict[str, Callable[[], Call]], users: list[str], seconds: float) -> tuple[float, float]:
    """Ask ours and bare onnxruntime one after the other: neither finds the caches as it left them.

    Returns:
        Median milliseconds of both.
    """
    ours, bare = makers[OURS](), makers[BARE]()
    times_ms: tuple[list[float], list[float]] = ([], [])
    end_s, number = time.perf_counter() + 2 * seconds, 0
    while time.perf_counter() < end_s:
        for call, times in zip((ours, bare), times_ms, strict=True):
            start_s = time.perf_counter()
            call(users[number % len(users)])
            times.append((time.perf_counter() - start_s) * 1000)
        number += 1
    return median(times_ms[0]), median(times_ms[1])


def _print_in_turn(rounds: list[tuple[float, float]]) -> None:
    ours_ms, bare_ms = (median(times) for times in zip(*rounds, strict=True))
    ratio = spread([ours / bare for ours, bare in rounds])
    print(f"\none after the other, 1 client: ours p50 {ours_ms:.2f} ms, bare onnxruntime {bare_ms:.2f} ms, {ratio}")


def _print(rounds: list[dict[str, Row]], num_clients: int) -> None:
    names = [name for name in rounds[0] if all(name in row for row in rounds)]
    print(f"\n{num_clients} clients, median of {len(rounds)} rounds; ratios of a round, median [range]")
    base = BARE if BARE in names else OURS
    print(f"{'':36}  p50 ms   p99 ms   req/s   p50 / {'bare' if base == BARE else 'ours'}           "
          "ours: times the req/s   p99 / ours")  # fmt: skip
    for name in names:
        p50_ms, p99_ms, rate = (
            median(row[name][key] for row in rounds) for key in ("p50_ms", "p99_ms", "requests_per_s")
        )
        to_base = [row[name]["p50_ms"] / row[base]["p50_ms"] for row in rounds]
        faster = [row[OURS]["requests_per_s"] / row[name]["requests_per_s"] for row in rounds]
        tail = [row[name]["p99_ms"] / row[OURS]["p99_ms"] for row in rounds]
        figures = f"{p50_ms:8.2f} {p99_ms:8.2f} {rate:7.0f}"
        print(f"{name:36}{figures}   {spread(to_base):20} {spread(faster):22}  {spread(tail)}", flush=True)


def _give(rounds: list[dict[str, Row]], num_clients: int, catalogue: str) -> None:
    case = f"{catalogue}, {num_clients} client{'s' if num_clients > 1 else ''}"
    for name in rounds[0]:
        if name in (OURS, BARE, LOADED) or not all(name in row for row in rounds):
            continue
        goal = None if name in OUR_PARTS else AHEAD  # our own code behind FastAPI is nothing that anybody has instead
        rates = [row[OURS]["requests_per_s"] / row[name]["requests_per_s"] for row in rounds]
        give("recommend, requests/s", case, name, rates, goal=goal)
        give("recommend, p99", case, name, [row[name]["p99_ms"] / row[OURS]["p99_ms"] for row in rounds], goal=goal)


if __name__ == "__main__":
    main()
