"""Starts, adopts and stops one Triton server on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.client.admin import KEY_FILE, admin_key, key_for_a_start, restriction
from lorefuse.core.atomic import atomic_file, write_json
from lorefuse.core.errors import DeployError
from lorefuse.core.home import make_home
from lorefuse.core.processes import identity, run_ns
from lorefuse.core.settings import settings
from lorefuse.deploy.ports import HOST, Ports
from lorefuse.deploy.runtime import find_runtime, plain_path
from lorefuse.export.model_repository import ModelRepository

if TYPE_CHECKING:
    import psutil

START_TIMEOUT_S, EXIT_TIMEOUT_S, STUB_EXIT_S = 60.0, 10, 2
_LOG_TAIL, KEPT_LOGS = 12, 4
TRACE_RATE = 100
REPOSITORY, STOPPED_FILE = "model_repository", "stopped"
_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Servers this process started: polled, so that an ended one does not stay as a zombie. They outlive this process."""
_HARMLESS = ("CudaDriverHelper", "NVIDIA Driver", "pinned_memory")


def _default_ports() -> Ports:
    return Ports.from_url(settings().triton_url)


@dataclass(frozen=True)
class Supervisor:
    """One Triton server and the folder it lives in.

    Attributes:
        serve_path: Holds `model_repository/`, `runtime/`, `triton.log` and `triton.json` (the pid file).
        ports: Where it listens.
        python_path: Interpreter of the serving environment.
        name: What `lorefuse status` calls it.
        http: Whether it also answers HTTP, on a port of its own.
    """

    serve_path: Path = field(default_factory=lambda: settings().serve_path)
    ports: Ports = field(default_factory=_default_ports)
    python_path: Path = field(default_factory=lambda: settings().serve_python_path)
    name: str = "local"
    http: bool = field(default_factory=lambda: settings().triton_http)

    @property
    def repository(self) -> ModelRepository:
        """The model repository."""
        return ModelRepository(self.serve_path / REPOSITORY)

    @property
    def log_path(self) -> Path:
        """Output of the server that was started last."""
        return self.serve_path / "triton.log"

    @property
    def url(self) -> str:
        """Address for gRPC clients."""
        return f"{HOST}:{self.ports.grpc}"

    @property
    def admin_key(self) -> str:
        """What the running server asks of whoever loads models; a new one at each start."""
        return admin_key(self.serve_path)

    @property
    def metrics_url(self) -> str:
        """Address of its metrics page."""
        return f"http://{HOST}:{self.ports.metrics}/metrics"

    def gone(self) -> bool:
        """Tell whether no server of this folder runs."""
        return self._find()[0] is None

    def is_stopped(self) -> bool:
        """Tell whether `stop` was told that it is on purpose, and nobody has started the server since."""
        return (self.serve_path / STOPPED_FILE).exists()

    def work_ns(self) -> dict[str, dict[int, int]]:
        """Return the nanoseconds that each model's stubs have run, by model and pid; the server's under no name."""
        import psutil

        process, _ = self._find()
        found: dict[str, dict[int, int]] = {"": {process.pid: run_ns(process.pid)}} if process else {}
        with contextlib.suppress(psutil.Error):
            for stub in process.children(recursive=True) if process else ():
                # …/<model>/<version>/model.py stands on a stub's command line.
                words = [Path(word) for word in stub.cmdline() if word.startswith(str(plain_path(self.serve_path)))]
                names = [path.relative_to(plain_path(self.serve_path)).parts for path in words]
                for name in {parts[1] for parts in names if len(parts) > 2 and parts[0] == REPOSITORY}:
                    found.setdefault(name, {})[stub.pid] = run_ns(stub.pid)
        return found

    def restart(self) -> dict[str, Any]:
        """Stop the server, if it runs, and start it again with what the repository says; returns what `start` does."""
        self.stop()
        return self.start()

    def start(self) -> dict[str, Any]:
        """Start the server with the deployed models, or adopt the one that already runs, and wait until it answers.

        Returns:
            pid, url, adopted and start_s.

        Raises:
            DeployError: The environment is not whole, a port is taken, or the server died or did not answer in time;
                the end of its log is part of the message.
        """
        start_s = time.perf_counter()
        with self._lock():
            (self.serve_path / STOPPED_FILE).unlink(missing_ok=True)
            process = self.process()
            adopted = process is not None
            if process is None:
                self._check_ports()
                self._spawn()
            self._wait_live()
            process = self.process()
        if process is None:
            raise DeployError("Triton died right after it started.", got=self.log_tail())
        return {
            "pid": process.pid,
            "url": self.url,
            "adopted": adopted,
            "start_s": round(time.perf_counter() - start_s, 2),
        }

    def stop(self, *, on_purpose: bool = False) -> bool:
        """Let requests in flight finish and end the server; True where one was running.

        Args:
            on_purpose: A reconciler is not to bring it back; `start` lifts that.

        Raises:
            DeployError: It could not be ended.
        """
        import psutil

        with self._lock():
            if on_purpose:
                (self.serve_path / STOPPED_FILE).touch()
            process, _ = self._find()
            if process is None:
                self._pid_path.unlink(missing_ok=True)
                return False
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([process], timeout=EXIT_TIMEOUT_S + 5)
            # A stub that hangs outlives a server that ends as it should.
            _, left = psutil.wait_procs(family, timeout=0 if alive else STUB_EXIT_S)
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            _, alive = psutil.wait_procs(left, timeout=5)
            if alive:
                raise DeployError(f"Triton (pid {process.pid}) could not be ended.", got=self.log_tail())
            self._pid_path.unlink(missing_ok=True)
            return True

    def process(self) -> psutil.Process | None:
        """Return the running server that this folder's pid file names; None where it is gone or is another program.

        Raises:
            DeployError: It listens on other ports than these.
        """
        process, ports = self._find()
        if process is not None and ports != asdict(self.ports):
            raise DeployError(
                "Triton already runs on other ports.",
                expected=str(asdict(self.ports)),
                got=str(ports),
                fix="make down, or the LOREFUSE_TRITON_URL it was started with",
            )
        return process

    def _find(self) -> tuple[psutil.Process | None, dict[str, int]]:
        import psutil

        for child in _CHILDREN:
            child.poll()
        try:
            facts = json.loads(self._pid_path.read_text("utf-8"))
            process, ports = psutil.Process(int(facts["pid"])), dict(facts["ports"])
            # A pid may have gone to another program since: the command line and the start tell. A process has
            # no command line yet in the instant between its start and the end of exec.
            command = process.cmdline()
            ours = not command or str(plain_path(self.serve_path) / REPOSITORY) in " ".join(command)
            if "identity" in facts:
                same = identity(process.pid) == facts["identity"]
            else:  # started by version 0.1.0
                same = abs(process.create_time() - float(facts["create_time"])) < 2
            alive = process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None, {}
        return (process, ports) if ours and same and alive else (None, {})

    def log_tail(self) -> str:
        """Return the last lines of the server's log, without what is always there on a machine without a GPU."""
        try:
            lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return "no log"
        lines = [line for line in lines if line.strip() and not any(word in line for word in _HARMLESS)]
        errors = [line for line in lines if line.startswith("E")]
        return "\n".join(["", *(errors or lines)[-_LOG_TAIL:], f"(all of it: {self.log_path})"])

    @property
    def _pid_path(self) -> Path:
        return self.serve_path / "triton.json"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Two starts at once must not make two servers."""
        make_home(settings().home_path)
        self.serve_path.mkdir(parents=True, exist_ok=True)
        with (self.serve_path / "triton.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _check_ports(self) -> None:
        for name, port in asdict(self.ports).items():
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind((HOST, port))
                except OSError as error:
                    raise DeployError(
                        f"Triton's {name} port {port} is taken.",
                        got=str(error),
                        fix=f"end what listens there, or set LOREFUSE_TRITON_URL={HOST}:<another port>",
                    ) from None

    def _spawn(self) -> None:
        place = plain_path(self.serve_path)
        runtime = find_runtime(self.python_path, place / "runtime")
        self.repository.path.mkdir(parents=True, exist_ok=True)
        key = key_for_a_start()
        with atomic_file(self.serve_path / KEY_FILE) as draft_path:
            draft_path.touch(mode=0o600)
            draft_path.write_text(key, "ascii")
        loaded = sorted(path.parent.name for path in self.repository.path.glob("*/config.pbtxt"))
        command = [
            str(runtime.server_path),
            f"--model-repository={place / REPOSITORY}",
            f"--backend-directory={runtime.backend_path}",
            f"--cache-directory={runtime.cache_path}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in loaded),
            "--disable-auto-complete-config",
            f"--allow-http={str(self.http).lower()}",
            f"--http-restricted-api={restriction(key)}",
            f"--grpc-restricted-protocol={restriction(key)}",
            *(f"--{name}-address={HOST}" for name in ("http", "grpc", "metrics")),
            *(f"--{name}-port={port}" for name, port in asdict(self.ports).items()),
            "--allow-gpu-metrics=false",
            "--rate-limit=execution_count",  # makes Triton heed `config_pbtxt._prefer_first`
            f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
            *_trace_flags(settings().traces_url),
            # A version that no longer loads must not keep the next one from being deployed; `status` tells.
            "--exit-on-error=false",
        ]
        _keep_old(self.log_path)
        with self.log_path.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 (our own binary, arguments not through a shell)
                command,
                env=runtime.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.serve_path,
                start_new_session=True,  # Ctrl-C in the terminal that started it must not end it
            )
        facts = {"pid": process.pid, "identity": identity(process.pid), "ports": asdict(self.ports)}
        write_json(self._pid_path, facts)
        _CHILDREN.append(process)

    def _wait_live(self) -> None:
        from lorefuse.deploy.control import Control

        end_s = time.monotonic() + START_TIMEOUT_S
        control = Control(self.url, self.admin_key)
        while time.monotonic() < end_s:
            process = self.process()
            if process is None:
                raise DeployError("Triton died while it started.", got=self.log_tail())
            if control.is_live():
                return
            time.sleep(0.1)
        raise DeployError(f"Triton did not answer within {START_TIMEOUT_S:g} s.", got=self.log_tail(), fix="make down")


def _trace_flags(url: str) -> list[str]:
    """Ask for the spans of every request whose caller traces, and of one in `TRACE_RATE` of the others."""
    if not url:
        return []
    general = {"mode": "opentelemetry", "level": "TIMESTAMPS", "rate": TRACE_RATE}
    exporter = {"url": url, "resource": "service.name=lorefuse-triton"}
    flags = [f"{name}={value}" for name, value in general.items()]
    flags += [f"opentelemetry,{name}={value}" for name, value in exporter.items()]
    return [f"--trace-config={flag}" for flag in flags]


def _keep_old(path: Path) -> None:
    """Number the logs of earlier starts, so that a restart does not take away what led to it."""
    for number in range(KEPT_LOGS, 0, -1):
        older_path = path.with_name(f"{path.name}.{number}")
        newer_path = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        if newer_path.exists():
            newer_path.replace(older_path)
