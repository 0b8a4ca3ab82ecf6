"""Prometheus' files by promtool; every metric of the dashboard and the rules on the page of a real Triton."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from lorefuse.client.admin import admin_headers
from lorefuse.config import DeploymentConfig
from lorefuse.deploy.metrics import ReconcilerMetrics
from lorefuse.deploy.ports import HOST, Ports
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.infra_triton import ADMIN_KEY, running, status_code
from tests.infra.conftest import INFRA_PATH

MONITORING_PATH = INFRA_PATH / "monitoring"
METRIC = re.compile(r"\b(?:nv_|lorefuse_front_)\w+")
OF_RECONCILER = re.compile(r"\blorefuse_(?:registry|reconciler|server|version)_\w+")
FROM_PROMETHEUS = {"instance", "job", "pod", "namespace"}
"""Labels that scraping adds."""
RULE_TESTS = {
    "rule_files": ["rules.yaml"],
    "evaluation_interval": "5s",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": 'up{job="triton", instance="dead"}', "values": "0x30"},
                {"series": 'up{job="triton", instance="well"}', "values": "1x30"},
                # A minute brings 60 requests; they wait 100 ms each, and 6 more fail.
                {"series": 'nv_inference_queue_duration_us{model="ranker", instance="slow"}', "values": "0+6000000x30"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": "20m",
                    "alertname": "LorefuseTritonDown",
                    "exp_alerts": [{"exp_labels": {"severity": "critical", "instance": "dead", "job": "triton"}}],
                }
            ],
        },
        {
            # Scraped every five seconds, as prometheus.yaml says; all but the third is of twenty seconds.
            "interval": "5s",
            "input_series": [
                {"series": 'up{job="triton", instance="blinks"}', "values": "1x60 0x3 1x60"},
                {"series": 'up{job="triton", instance="well"}', "values": "1x124"},
                {"series": 'nv_inference_queue_duration_us{model="ranker", instance="slow"}', "values": "0+500000x250"},
                {"series": 'nv_inference_request_success{model="recommend", instance="slow"}', "values": "0+5x250"},
                {
                    "series": 'nv_inference_request_failure{model="recommend", reason="OTHER", instance="blinks"}',
                    "values": "0x60 0+5x3 15x60",
                },
                {"series": 'nv_inference_request_success{model="recommend", instance="blinks"}', "values": "0+5x124"},
                {"series": 'nv_inference_request_failure{model="recommend", instance="well"}', "values": "0x124"},
                {"series": 'nv_inference_request_success{model="recommend", instance="well"}', "values": "0+5x124"},
            ],
            "alert_rule_test": [
                *(
                    {"eval_time": moment, "alertname": name, "exp_alerts": [{"exp_labels": labels}] if rings else []}
                    for name, labels in (
                        ("LorefuseTritonDown", {"severity": "critical", "instance": "blinks", "job": "triton"}),
                        ("LorefuseRequestsFail", {"severity": "critical", "instance": "blinks"}),
                    )
                    for moment, rings in (("4m55s", False), ("5m15s", True), ("7m", False))
                ),
                {
                    "eval_time": "15m",
                    "alertname": "LorefuseRequestsWait",
                    "exp_alerts": [{"exp_labels": {"severity": "warning", "instance": "slow"}}],
                },
            ],
        },
        {
            "interval": "5s",
            "input_series": [
                {"series": 'up{job="reconciler"}', "values": "1x240"},
                {"series": 'lorefuse_reconciler_look_time_seconds{job="reconciler", server="a"}', "values": "0+5x240"},
                # Its registry last answered at four minutes, the second server was last looked after at eight.
                {"series": "lorefuse_registry_answer_time_seconds", "values": "0+5x48 240x192"},
                {
                    "series": 'lorefuse_reconciler_look_time_seconds{job="reconciler", server="b"}',
                    "values": "0+5x96 480x144",
                },
                {"series": 'lorefuse_server_restarts_total{server="a"}', "values": "0x60 1x180"},
                {
                    "series": 'lorefuse_version_stages_total{server="a", stage="rolled_back"}',
                    "values": "0x60 1x180",
                },
                {"series": 'lorefuse_version_stages_total{server="a", stage="live"}', "values": "0x60 1x180"},
                {"series": 'lorefuse_server_problem{server="a"}', "values": "0x60 1x12 0x168"},
                {"series": 'lorefuse_server_problem{server="b"}', "values": "0x60 1x180"},
            ],
            "alert_rule_test": [
                {
                    "eval_time": moment,
                    "alertname": f"Lorefuse{name}",
                    "exp_alerts": [{"exp_labels": one} for one in labels],
                }
                for moment, name, labels in (
                    ("4m55s", "ServerRestarted", []),
                    ("5m15s", "ServerRestarted", [{"severity": "warning", "server": "a"}]),
                    ("4m55s", "VersionTakenBack", []),
                    ("5m15s", "VersionTakenBack", [{"severity": "warning", "server": "a", "stage": "rolled_back"}]),
                    ("8m55s", "RegistryStale", []),
                    ("9m10s", "RegistryStale", [{"severity": "warning"}]),
                    ("6m55s", "ServerInTrouble", []),
                    ("7m30s", "ServerInTrouble", [{"severity": "critical", "server": "b"}]),
                    ("9m55s", "ReconcilerDead", []),
                    ("10m30s", "ReconcilerDead", [{"severity": "critical", "job": "reconciler"}]),
                )
            ],
        },
        {
            "interval": "5s",
            "input_series": [{"series": 'up{job="reconciler"}', "values": "1x24 0x24"}],
            "alert_rule_test": [
                {"eval_time": moment, "alertname": "LorefuseReconcilerDead", "exp_alerts": alerts}
                for moment, alerts in (
                    ("1m55s", []),
                    ("3m", [{"exp_labels": {"severity": "critical"}}]),
                )
            ],
        },
    ],
}


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (MONITORING_PATH / "grafana" / "dashboards" / "triton.json").read_text("utf-8")
    )
    return content


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def all_expressions() -> list[str]:
    rules = yaml.safe_load((MONITORING_PATH / "rules.yaml").read_text("utf-8"))
    adapter = yaml.safe_load((MONITORING_PATH / "prometheus-adapter.yaml").read_text("utf-8"))
    variables = [entry["query"]["query"] for entry in dashboard()["templating"]["list"]]
    return [
        *dashboard_expressions(),
        *variables,
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
        *(rule[key] for rule in adapter["rules"]["custom"] for key in ("seriesQuery", "metricsQuery")),
    ]


def promtool(command: str, *arguments: str) -> None:
    run = subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_config_and_rules_are_prometheus(tool: Callable[[str], str]) -> None:
    promtool(tool("promtool"), "check", "config", str(MONITORING_PATH / "prometheus.yaml"))
    promtool(tool("promtool"), "check", "rules", str(MONITORING_PATH / "rules.yaml"))


def test_kubernetes_gets_the_same_rules() -> None:
    ours = yaml.safe_load((MONITORING_PATH / "rules.yaml").read_text("utf-8"))
    theirs = yaml.safe_load((MONITORING_PATH / "prometheus-rule.yaml").read_text("utf-8"))
    assert theirs["spec"] == ours


def test_alerts_ring_when_they_should(tool: Callable[[str], str], tmp_path: Path) -> None:
    rules = yaml.safe_load((MONITORING_PATH / "rules.yaml").read_text("utf-8"))
    for rule in (one for group in rules["groups"] for one in group["rules"]):
        rule.pop("annotations", None)  # promtool compares them too, and words are not what is tested
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules), "utf-8")
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(RULE_TESTS), "utf-8")
    promtool(tool("promtool"), "test", "rules", str(tmp_path / "tests.yaml"))


def test_expressions_of_the_dashboard_are_promql(tool: Callable[[str], str], tmp_path: Path) -> None:
    """promtool reads rules, so each expression becomes one."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    promtool(tool("promtool"), "check", "rules", str(path))


def test_dashboard_is_whole() -> None:
    content = dashboard()
    (source_path,) = (MONITORING_PATH / "grafana" / "provisioning" / "datasources").glob("*.yaml")
    sources = {one["uid"] for one in yaml.safe_load(source_path.read_text("utf-8"))["datasources"]}
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in (one for one in panels if one["type"] != "row"):
        assert panel["datasource"]["uid"] in sources
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps(dashboard_expressions())))
    assert used == {entry["name"] for entry in content["templating"]["list"]}


def test_every_alert_is_tested_and_has_its_line_in_the_runbook() -> None:
    rules = yaml.safe_load((MONITORING_PATH / "rules.yaml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tested = {one["alertname"] for test in RULE_TESTS["tests"] for one in test["alert_rule_test"]}  # type: ignore[attr-defined]
    assert alerts == tested
    runbook = (INFRA_PATH.parent / "docs" / "infra.md").read_text("utf-8")
    assert {alert for alert in alerts if f"| `{alert}` |" not in runbook} == set()


def test_metrics_of_the_reconciler_that_are_asked_for_are_on_its_page(tmp_path: Path) -> None:
    page = ReconcilerMetrics(Reconciler(DeploymentConfig(), [Supervisor(tmp_path)], tmp_path)).collect()
    labels = {
        f"{one.name}_total" if one.type == "counter" else one.name: set(one._labelnames)  # type: ignore[attr-defined]
        for one in page
    }
    asked = {name for expression in all_expressions() for name in OF_RECONCILER.findall(expression)}
    assert len(asked) >= 5
    assert asked <= labels.keys()
    for expression in all_expressions():
        wanted = set(re.findall(r"(\w+)\s*=~?\s*\"", expression)) - FROM_PROMETHEUS
        for name in OF_RECONCILER.findall(expression):
            assert wanted <= labels[name], expression


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with running(tmp_path_factory.mktemp("triton")) as found:
        yield found


@pytest.fixture
def page(ports: Ports) -> dict[str, set[str]]:
    """Metrics and their labels on the server's page after a request."""
    with InferenceServerClient(f"{HOST}:{ports.grpc}") as client:
        number = InferInput("number", [1, 1], "INT32")
        number.set_data_from_numpy(np.ones((1, 1), np.int32))
        client.infer("recommend", [number])
    with urllib.request.urlopen(f"http://{HOST}:{ports.metrics}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found: dict[str, set[str]] = {}
    # Names as Prometheus stores them: a parser for Python would add `_total` to every counter.
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


@pytest.mark.triton
@pytest.mark.xdist_group("serving")
def test_probes_of_the_manifest_tell_the_truth(ports: Ports) -> None:
    """With the manifest's flags the server loads what is there, and a folder without a model keeps nothing away."""
    url = f"http://{HOST}:{ports.http}"
    assert status_code(f"{url}/v2/health/live") == 200
    assert status_code(f"{url}/v2/models/recommend/config") == 403, "HTTP is for probes alone"
    assert status_code(f"{url}/v2/models/recommend/ready") == 200
    with InferenceServerClient(f"{HOST}:{ports.grpc}") as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.unload_model("recommend")
        client.unload_model("recommend", admin_headers(ADMIN_KEY))
        end_s = time.monotonic() + 30
        while status_code(f"{url}/v2/models/recommend/ready") == 200:
            assert time.monotonic() < end_s, "the readiness probe goes on without the model"
            time.sleep(0.1)
        assert status_code(f"{url}/v2/health/live") == 200
        client.load_model("recommend", admin_headers(ADMIN_KEY))
    assert status_code(f"{url}/v2/models/recommend/ready") == 200


@pytest.mark.triton
@pytest.mark.xdist_group("serving")
def test_every_metric_that_is_asked_for_is_on_a_real_page(page: dict[str, set[str]]) -> None:
    asked = {name for expression in all_expressions() for name in METRIC.findall(expression)}
    assert len(asked) >= 12
    assert asked <= page.keys(), f"not on the page: {sorted(asked - page.keys())}; there is {sorted(page)}"
    for expression in all_expressions():
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        labels |= {one.strip() for group in re.findall(r"by \(([\w, ]+)\)", expression) for one in group.split(",")}
        names = METRIC.findall(expression)
        have = set().union(*(page[name] for name in names)) if names else labels
        assert labels - FROM_PROMETHEUS <= have, expression
