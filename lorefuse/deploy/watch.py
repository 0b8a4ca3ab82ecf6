"""Keep one server answering. Readiness lies (a dead Python stub stays ready), so it is asked what it must know.

An answer that is overdue is no proof of death: a server that answers others meanwhile is busy, and a restart would only
take away what it does. It is dead where it answers nobody, and broken where it answers wrongly or one of its processes
stands still.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from lorefuse.core.errors import DeployError, OverdueError, UnreachableError
from lorefuse.deploy.control import Control
from lorefuse.deploy.guard import num_answered
from lorefuse.deploy.remote import Server
from lorefuse.deploy.verify import probe, verify_ready
from lorefuse.export.signature import RECOMMEND

MISSES_OF_WRONG_ANSWERS, MISSES_OF_SILENCE = 2, 3
"""Looks in a row that must fail before a restart."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""Between two restarts, doubled each time; a look that succeeds begins anew."""
MIN_IDLE_S = 2.0
"""A process that has not run at all for so long is stopped."""
NUM_PROBES = 8
"""Questions at once in a look: an instance that is given work only while another is busy may be dead."""
Work = Mapping[str, Mapping[int, int]]
"""Nanoseconds that processes have run, by model and pid; the server's own under no name."""
_log = logging.getLogger(__name__)


class StillBrokenError(DeployError):
    """The deployed version answers wrongly even after a restart."""


class Watchdog:
    """Asks a server, and restarts it where it is dead.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.num_misses = 0
        self.num_restarts = 0
        self._pause_s, self._restart_from_s = FIRST_PAUSE_S, 0.0
        self._seen: tuple[float, Work] = (0.0, {})
        self._is_suspect = False
        """A process stood still when last compared: what others answer meanwhile does not excuse it."""

    def look(self) -> None:
        """Ask once, and restart a server whose process is gone at once, another after some misses in a row.

        Raises:
            UnreachableError: It was stopped on purpose.
            OverdueError: It is busy, or has not answered for too short a time to be called dead.
            DeployError: It answers wrongly; it will be asked once more.
            StillBrokenError: It was restarted, and what is deployed still answers wrongly.
        """
        if self.server.is_stopped():
            raise UnreachableError(f"{self.server.name} was stopped on purpose.", fix="lorefuse up")
        before = self._num_answered()
        try:
            self._check_running()
            if not Control(self.server.url).is_live():
                raise OverdueError("Triton does not answer.", model="", expected=f"an answer from {self.server.url}")
            self.check()
            if not self._is_suspect:
                self.num_misses, self._pause_s = 0, FIRST_PAUSE_S
            return
        except DeployError as error:
            gone, enough = self.server.gone(), MISSES_OF_WRONG_ANSWERS
            if isinstance(error, OverdueError):
                enough = MISSES_OF_SILENCE
                if not gone and self._num_answered() - before > NUM_PROBES + 1:  # others than us
                    self.num_misses = self.num_misses if self._is_suspect else 0
                    raise
            self.num_misses += 1
            if (self.num_misses < enough and not gone) or time.monotonic() < self._restart_from_s:
                raise
            _log.warning("%s: restarting Triton: %s", self.server.name, str(error).splitlines()[0])
        self._restart()

    def check(self) -> None:
        """Check the answers of everything that is deployed.

        Raises:
            DeployError: One is missing or wrong.
        """
        active = self.server.repository.active
        if active is None:
            return
        trial = self.server.repository.trial
        probe(self.server.url, [active] if trial is None else [active, trial.canary], NUM_PROBES)
        verify_ready(self.server.url, self.server.repository, active, front=None)

    def _restart(self) -> None:
        self.num_misses, self._is_suspect = 0, False
        self.num_restarts += 1
        self._restart_from_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self.server.restart()
        try:
            self.check()
        except OverdueError:
            raise
        except DeployError as error:
            raise StillBrokenError("What is deployed does not answer after a restart.", got=str(error)) from None

    def _num_answered(self) -> float:
        try:
            return num_answered(self.server.metrics_url, RECOMMEND)
        except UnreachableError:
            return float("inf")  # what follows is no progress

    def _check_running(self) -> None:
        """Raise where a process has not run at all for a while: even an idle one wakes several times a second."""
        now_s, work = time.monotonic(), self.server.work_ns()
        seen_s, seen = self._seen
        if now_s - seen_s < MIN_IDLE_S:
            return
        self._seen, self._is_suspect = (now_s, work), False
        for name, processes in work.items():
            for pid, ran in processes.items():
                if seen.get(name, {}).get(pid) == ran:
                    self._is_suspect = True
                    raise DeployError(
                        f"A process of {name or 'the server'} stands still.", got=f"pid {pid} did not run"
                    )
