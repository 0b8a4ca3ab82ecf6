"""Load on a server: our own threads, and Triton's `perf_analyzer`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from .environment import PeerUnavailableError, peer_python

Call = Callable[[int], object]
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
"""What perf_analyzer is linked with, and what the serving environment calls them."""


def measure(make_call: Callable[[], Call], num_clients: int, seconds: float) -> dict[str, float]:
    """Send requests one after another from each of several threads; return p50_ms, p99_ms and requests_per_s.

    Args:
        make_call: Makes a thread's connection: a function of the request's number.
        num_clients: Threads.
        seconds: How long to send.
    """
    times_ms: list[list[float]] = [[] for _ in range(num_clients)]
    failures: list[Exception] = []
    barrier = threading.Barrier(num_clients + 1)

    def run(client: int) -> None:
        try:
            call, number = make_call(), client
            call(number)
            barrier.wait()
            end_s = time.perf_counter() + seconds
            while (start_s := time.perf_counter()) < end_s:
                call(number)
                times_ms[client].append((time.perf_counter() - start_s) * 1000)
                number += num_clients
        except Exception as error:  # whatever it is: it is raised below
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(client,)) for client in range(num_clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    flat = np.concatenate(times_ms)
    p50_ms, p99_ms = np.percentile(flat, [50, 99])
    # A slow server's last requests end after the window.
    took_s = max(seconds, *(sum(times) / 1000 for times in times_ms))
    return {"p50_ms": float(p50_ms), "p99_ms": float(p99_ms), "requests_per_s": len(flat) / took_s}


class PerfAnalyzer:
    """Triton's load generator, asking `recommend` until it is told to stop. A failed request ends it with an error.

    Args:
        url: gRPC address.
        user_ids: Whom to ask for, in turn.
        folder_path: Where it keeps its input, libraries and output.
        serve_python_path: Interpreter of the serving environment, which has the libraries.
        num_clients: Requests in flight.
        seconds: Measure for so long and end by itself; 0: go on until `stop`.

    Raises:
        PeerUnavailableError: It cannot be installed here.
    """

    def __init__(
        self,
        url: str,
        user_ids: Sequence[str],
        folder_path: Path,
        serve_python_path: Path,
        *,
        num_clients: int = 1,
        seconds: float = 0,
    ) -> None:
        program_path = peer_python("perf_analyzer").parent / "perf_analyzer"
        self.csv_path, self.log_path = folder_path / "perf_analyzer.csv", folder_path / "perf_analyzer.log"
        rows = [{name: {"content": [value], "shape": [1]} for name, value in (("user_id", user_id), ("k", 10))}
                for user_id in user_ids]  # fmt: skip
        input_path = folder_path / "perf_analyzer.json"
        input_path.write_text(json.dumps({"data": rows}), "utf-8")
        command = [str(program_path), "-m", "recommend", "-u", url, "-i", "grpc", "--input-data", str(input_path)]
        command += ["--concurrency-range", str(num_clients), "-f", str(self.csv_path)]
        # Three windows where it is to end by itself; else no window is ever like the one before it.
        window_ms, trials, alike = (seconds / 3 * 1000, 3, 1e6) if seconds else (1000, 1_000_000, 1e-3)
        command += ["--measurement-interval", f"{window_ms:.0f}", "--max-trials", str(trials)]
        command += ["--stability-percentage", str(alike), "-v"]  # a line per window
        environment = {**os.environ, "LD_LIBRARY_PATH": _libraries(serve_python_path, folder_path)}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def __enter__(self) -> PerfAnalyzer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def stop(self) -> tuple[int, list[float], str]:
        """End it after the requests in flight.

        Returns:
            Its exit status, 0 where no request failed; requests a second in each window of a second; what it said.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        code, said = self._process.wait(60), self.log_path.read_text("utf-8", "replace")
        return code, [float(rate) for rate in re.findall(r"throughput: ([\d.]+) infer/sec", said)], said

    def result(self) -> dict[str, float]:
        """Wait for the end of a measurement; return p50_ms, p99_ms and requests_per_s.

        Raises:
            PeerUnavailableError: It failed; the message says why.
        """
        code = self._process.wait(120)
        if code or not self.csv_path.is_file():
            raise PeerUnavailableError(f"perf_analyzer ended with {code}: {self.log_path.read_text('utf-8')[-500:]}")
        names, values = (line.split(",") for line in self.csv_path.read_text("utf-8").splitlines()[:2])
        row = dict(zip(names, values, strict=False))
        p50_ms, p99_ms = (float(row[f"p{n} latency"]) / 1000 for n in (50, 99))
        return {"p50_ms": p50_ms, "p99_ms": p99_ms, "requests_per_s": float(row["Inferences/Second"])}


def _libraries(serve_python_path: Path, folder_path: Path) -> str:
    (source_path,) = serve_python_path.parents[1].glob("lib/python3*/site-packages/nvidia_pytriton.libs")
    links_path = folder_path / "lib"
    links_path.mkdir(exist_ok=True)
    for name, pattern in _LIBRARIES.items():
        if not (links_path / name).exists():
            (links_path / name).symlink_to(next(source_path.glob(pattern)))
    return f"{links_path}:{source_path}"
