"""The reconciler's page, read by Prometheus' own parser over HTTP."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lorefuse.config import DeploymentConfig
from lorefuse.core.errors import UsageError
from lorefuse.deploy import metrics
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.remote import RemoteServer
from lorefuse.deploy.state import Stage
from lorefuse.export.model_repository import ModelRepository

Page = dict[tuple[str, tuple[str, ...]], float]


def read(port: int) -> Page:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(one.name, tuple(one.labels.values())): one.value for family in families for one in family.samples}


def test_the_page_says_what_the_states_say(tmp_path: Path) -> None:
    servers = [
        RemoteServer(name, "127.0.0.1:1", "http://127.0.0.1:1/metrics", ModelRepository(tmp_path / name))
        for name in ("a", "b")
    ]
    reconciler = Reconciler(DeploymentConfig(), servers, tmp_path)
    port = free_ports().metrics
    metrics.serve(port, reconciler)
    page = read(port)
    assert page["lorefuse_registry_answer_time_seconds", ()] == 0
    assert page["lorefuse_reconciler_look_time_seconds", ("a",)] == 0
    before_s = time.time()
    first, second = reconciler.followers
    first.tick(None)  # nobody listens there
    first.state.enter(Stage.CANARY, "", desired=8, actual=7, candidate=8)
    first.watchdog.num_restarts = 3
    for stage in (Stage.CANARY, Stage.ROLLED_BACK, Stage.ROLLED_BACK):
        reconciler.num_reports["a", stage.value] += 1
    page = read(port)
    assert before_s <= page["lorefuse_reconciler_look_time_seconds", ("a",)] <= time.time()
    assert page["lorefuse_reconciler_look_time_seconds", ("b",)] == 0
    versions = [page["lorefuse_server_version", ("a", which)] for which in ("desired", "actual", "candidate")]
    assert versions == [8, 7, 8]
    stages = {one.value: page["lorefuse_server_stage", ("a", one.value)] for one in metrics.SERVER_STAGES}
    assert stages == {"empty": 0, "live": 0, "shadow": 0, "canary": 1}
    assert page["lorefuse_server_stage", ("b", "empty")] == 1
    assert page["lorefuse_server_problem", ("a",)] == 1
    assert page["lorefuse_server_problem", ("b",)] == 0
    assert page["lorefuse_server_restarts_total", ("a",)] == 3
    assert page["lorefuse_version_stages_total", ("a", "rolled_back")] == 2
    assert second.state.stage == Stage.EMPTY
    with pytest.raises(UsageError, match="another --metrics-port"):
        metrics.serve(port, reconciler)
