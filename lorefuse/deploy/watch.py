"""Keep one server answering. Readiness lies (a dead Python stub stays ready), so it is asked what it must know."""

from __future__ import annotations

import logging

from lorefuse.deploy.canary import probe, verify_ready
from lorefuse.deploy.control import Control
from lorefuse.deploy.remote import Server
from lorefuse.errors import DeployError
from lorefuse.export import served as r
from lorefuse.export.router import read_trial

MISSES_BEFORE_RESTART = 2
NUM_PROBES = 8
"""Questions at once in a look: an instance that is given work only while another is busy may be dead."""
_log = logging.getLogger(__name__)


class StillBrokenError(DeployError):
    """The deployed version does not answer even after a restart."""


class Watchdog:
    """Asks a server, and restarts it where it does not answer.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.num_misses = 0
        self.num_restarts = 0

    def look(self) -> None:
        """Ask once. The second miss in a row restarts the server, and so does the first where its process is gone.

        Raises:
            DeployError: It does not answer; it will be asked once more.
            StillBrokenError: It was restarted, and what is deployed does not answer.
        """
        try:
            if not Control(self.server.url).is_live():
                raise DeployError("Triton does not answer.", expected=f"an answer from {self.server.url}")
            self.check()
            self.num_misses = 0
            return
        except DeployError as error:
            self.num_misses += 1
            if self.num_misses < MISSES_BEFORE_RESTART and not self.server.gone():
                raise
            _log.warning("%s: restarting Triton: %s", self.server.name, str(error).splitlines()[0])
        self.num_misses = 0
        self.num_restarts += 1
        self.server.restart()
        try:
            self.check()
        except DeployError as error:
            raise StillBrokenError("What is deployed does not answer after a restart.", got=str(error)) from None

    def check(self) -> None:
        """Hold the answers of everything that is deployed to what they must be.

        Raises:
            DeployError: One is missing or wrong.
        """
        active = r.active_version(self.server.repository_path)
        if active is None:
            return
        trial = read_trial(self.server.repository_path)
        probe(self.server.url, [active] if trial is None else [active, trial.canary], NUM_PROBES)
        verify_ready(self.server.url, self.server.repository_path, active, front=None)
