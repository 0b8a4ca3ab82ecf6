"""What a reconciler does, as a page for Prometheus: versions, stages, restarts, verdicts, and when it last looked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorefuse.core.errors import UsageError
from lorefuse.deploy.state import Stage

if TYPE_CHECKING:
    from prometheus_client import Metric

    from lorefuse.deploy.reconcile import Reconciler

HOST = "127.0.0.1"
SERVER_STAGES = (Stage.EMPTY, Stage.LIVE, Stage.SHADOW, Stage.CANARY)


class ReconcilerMetrics:
    """A collector of prometheus_client: reads the reconciler whenever the page is asked for.

    Args:
        reconciler: Whose page it is.
    """

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as of now."""
        from prometheus_client.core import CounterMetricFamily as Counter
        from prometheus_client.core import GaugeMetricFamily as Gauge

        answered = Gauge("lorefuse_registry_answer_time_seconds", "When the registry last answered, Unix time.")
        answered.add_metric([], self.reconciler.watcher.answered_at_s)
        looked = Gauge(
            "lorefuse_reconciler_look_time_seconds", "When a server was last looked after.", labels=["server"]
        )
        version = Gauge("lorefuse_server_version", "Model versions of a server; 0: none.", labels=["server", "which"])
        stage = Gauge("lorefuse_server_stage", "1 for the stage that a server is in.", labels=["server", "stage"])
        problem = Gauge("lorefuse_server_problem", "1 where something is wrong now.", labels=["server"])
        restarts = Counter("lorefuse_server_restarts", "Restarts of a server that was dead.", labels=["server"])
        for follower in self.reconciler.followers:
            state, name = follower.state, follower.server.name
            looked.add_metric([name], follower.looked_at_s)
            for which in ("desired", "actual", "candidate"):
                version.add_metric([name, which], getattr(state, which) or 0)
            for one in SERVER_STAGES:
                stage.add_metric([name, one.value], float(state.stage == one))
            problem.add_metric([name], float(bool(state.problem)))
            restarts.add_metric([name], follower.watchdog.num_restarts)
        verdicts = Counter("lorefuse_version_stages", "Times a version came to a stage.", labels=["server", "stage"])
        for (name, reached), number in sorted(self.reconciler.num_reports.items()):
            verdicts.add_metric([name, reached], number)
        yield from (answered, looked, version, stage, problem, restarts, verdicts)


def serve(port: int, reconciler: Reconciler, host: str = HOST) -> None:
    """Answer `/metrics` in a thread of this process.

    Raises:
        UsageError: The port is taken.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(ReconcilerMetrics(reconciler))
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(
            f"Nothing can listen on {host}:{port}.", got=str(error), fix="name another --metrics-port"
        ) from None
