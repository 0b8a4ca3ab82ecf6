"""The Kubernetes manifests: rendered by kustomize, held to the API's schemas, a policy linter and our own rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lorefuse.config import load_deployment
from lorefuse.registry.access.hosts import check_target, listed_hosts
from tests.helpers.manifests import OVERLAYS, WORKLOADS, Manifests, is_pinned, matches, port_names, render
from tests.infra.conftest import INFRA_PATH

KUBERNETES_VERSION = "1.33"
ACCEPTED_FINDINGS = {
    "CKV_K8S_43": "digests are known once the images are pushed; the overlays say where they go",
    "CKV_K8S_15": "images are pinned, so what is on the node is what was asked for",
    "CKV_K8S_35": "MLflow, libpq, boto3 and Triton's models read their secrets from the environment",
    "CKV_K8S_40": "PostgreSQL's and Redis' own images have their users at 999",
}
SECRETS = {
    "lorefuse-postgres": {"password"},
    "lorefuse-redis": {"password", "url"},
    "lorefuse-triton": {"admin-key"},
    "lorefuse-s3": {"uri", "endpoint", "access-key", "secret-key"},
    "lorefuse-mlflow": {"username", "password", "flask-secret-key", "webhook-encryption-key"},
    **{f"lorefuse-mlflow-{name}": {"username", "password"} for name in ("trainer", "promoter", "reconciler", "reader")},
    "lorefuse-webhook": {"secret"},
}
"""What docs/infra.md tells to make."""
URL_WITH_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def test_overlays_differ_in_the_gpu_alone(tool: Callable[[str], str]) -> None:
    cpu, gpu = (Manifests(render(tool("kubectl"), INFRA_PATH / "k8s" / "overlays" / name)) for name in OVERLAYS)
    names = [[(one["kind"], one["metadata"]["name"]) for one in m.objects] for m in (cpu, gpu)]
    assert names[0] == names[1]
    changed = {one["metadata"]["name"] for one, two in zip(cpu.objects, gpu.objects, strict=True) if one != two}
    assert changed == {"triton"}
    triton = gpu.one("StatefulSet", "triton")["spec"]["template"]["spec"]["containers"][0]
    assert triton["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--model-config-name=gpu" in triton["args"]


@pytest.fixture(scope="module")
def rendered_paths(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files with what both overlays make."""
    folder_path = tmp_path_factory.mktemp("rendered")
    for name in OVERLAYS:
        text = render(tool("kubectl"), INFRA_PATH / "k8s" / "overlays" / name)
        (folder_path / f"{name}.yaml").write_text(text, "utf-8")
    return [str(folder_path / f"{name}.yaml") for name in OVERLAYS]


def test_objects_fit_the_schemas_of_the_api(
    rendered_paths: list[str], tool: Callable[[str], str], tmp_path: Path
) -> None:
    command = [tool("kubernetes-validate"), "--strict", "--no-warn", "-k", KUBERNETES_VERSION]
    run = subprocess.run([*command, *rendered_paths], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    broken_path = tmp_path / "broken.yaml"
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "x"}, "spec": {"accesModes": []}}
    broken_path.write_text(yaml.safe_dump(claim), "utf-8")
    broken = subprocess.run([*command, str(broken_path)], capture_output=True, text=True, check=False, timeout=120)
    assert broken.returncode != 0, "the validator accepts a misspelt key"


def test_policy_linter_finds_nothing_but_what_is_accepted(
    rendered_paths: list[str], tool: Callable[[str], str]
) -> None:
    files = [argument for path in rendered_paths for argument in ("-f", path)]
    command = [tool("checkov"), *files, "--framework", "kubernetes", "--compact", "--quiet", "-o", "json"]
    command += ["--skip-download", "--skip-check", ",".join(ACCEPTED_FINDINGS)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    report = json.loads(run.stdout)
    assert report["summary"]["passed"] > 100
    failed = [f"{one['check_id']} {one['check_name']}: {one['resource']}" for one in report["results"]["failed_checks"]]
    assert not failed


def test_every_image_is_pinned(manifests: Manifests) -> None:
    images = {name: container["image"] for name, container in manifests.containers()}
    assert len(images) >= 8
    assert not {name: image for name, image in images.items() if not is_pinned(image)}


def test_no_secret_stands_in_a_manifest(manifests: Manifests) -> None:
    assert not manifests.of("Secret")
    used: dict[str, set[str]] = {}
    for name, container in manifests.containers():
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                used.setdefault(reference["name"], set()).add(reference["key"])
            elif re.search(r"(?i)password|secret|token|_key\b|pass$", variable["name"]):
                pytest.fail(f"{name} has {variable['name']} as a value")
            assert not URL_WITH_PASSWORD.search(str(variable.get("value", ""))), name
        assert not URL_WITH_PASSWORD.search(json.dumps(container.get("args", []))), name
    assert used == SECRETS


def test_every_container_is_bounded_and_locked_down(manifests: Manifests) -> None:
    for name, container in manifests.containers():
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), name
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
    for name, pod in manifests.pods():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name


def test_every_container_has_probes_on_ports_that_it_has(manifests: Manifests) -> None:
    jobs = {one["metadata"]["name"] for one in manifests.of("Job")}  # they end, and nobody asks them anything
    for name, container in manifests.containers(init=False):
        if name.partition("/")[0] in jobs:
            continue
        ports = {port["name"] for port in container["ports"]}
        wanted = {"readinessProbe", "livenessProbe"} | (set() if name.endswith("exporter") else {"startupProbe"})
        assert wanted <= container.keys(), name
        for probe in (container[kind] for kind in wanted):
            action = probe.get("httpGet") or probe.get("tcpSocket")
            assert (action and action["port"] in ports) or probe.get("exec"), name


def test_what_is_mounted_exists(manifests: Manifests) -> None:
    have = {(one["kind"], one["metadata"]["name"]) for one in manifests.objects}
    for one in manifests.of(*WORKLOADS):
        pod = one["spec"]["template"]["spec"]
        templates = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            for mount in container.get("volumeMounts", ()):
                assert mount["name"] in templates | volumes.keys(), f"{one['metadata']['name']}: {mount}"
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in have, volume
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in have, volume


def test_services_budgets_and_scalers_point_at_something(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        found = manifests.matching({"matchLabels": service["spec"]["selector"]})
        assert len(found) == 1, service["metadata"]["name"]
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        assert targets <= port_names(found[0][1]).keys(), service["metadata"]["name"]
    for budget in manifests.of("PodDisruptionBudget"):
        assert manifests.matching(budget["spec"]["selector"])
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in manifests.one(target["kind"], target["name"])["spec"], "kubectl apply would undo it"
    for one in manifests.of("StatefulSet"):
        assert manifests.one("Service", one["spec"]["serviceName"])


def test_service_monitors_match_a_service_and_its_port(manifests: Manifests) -> None:
    monitors = manifests.of("ServiceMonitor")
    assert {one["metadata"]["name"] for one in monitors} == {"triton", "reconciler", "redis", "postgres"}
    for monitor in monitors:
        found = [
            service for service in manifests.of("Service")
            if matches(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]  # fmt: skip
        assert len(found) == 1, monitor["metadata"]["name"]
        ports = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_reconciler_knows_every_replica_that_the_scaler_may_make(manifests: Manifests, tmp_path: Path) -> None:
    (config_map,) = [one for one in manifests.of("ConfigMap") if one["metadata"]["name"].startswith("reconciler")]
    path = tmp_path / "deployment.yaml"
    path.write_text(config_map["data"]["deployment.yaml"], "utf-8")
    replicas = load_deployment(path).replicas
    triton = manifests.one("StatefulSet", "triton")
    assert len(replicas) == manifests.one("HorizontalPodAutoscaler", "triton")["spec"]["maxReplicas"]
    service = triton["spec"]["serviceName"]
    for index, replica in enumerate(replicas):
        assert replica.url == f"triton-{index}.{service}:8001"
        assert str(replica.repository_path) == f"/models/triton-{index}/model_repository"
    assert (
        "--model-repository=/models/$(POD_NAME)/model_repository"
        in (triton["spec"]["template"]["spec"]["containers"][0]["args"])
    )


def test_scaler_asks_for_the_metric_that_the_adapter_makes(manifests: Manifests) -> None:
    rules = yaml.safe_load((INFRA_PATH / "monitoring" / "prometheus-adapter.yaml").read_text("utf-8"))["rules"][
        "custom"
    ]
    (metric,) = manifests.one("HorizontalPodAutoscaler", "triton")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in {rule["name"]["as"] for rule in rules}


def test_steps_are_sent_to_the_same_mlflow(manifests: Manifests) -> None:
    """`lorefuse submit` takes the server's address and its secret's name from pipelines/clusters."""
    service = manifests.one("Service", "mlflow")
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    for path in sorted((INFRA_PATH.parent / "pipelines" / "clusters").glob("*.yaml")):
        cluster = yaml.safe_load(path.read_text("utf-8"))
        assert cluster["env"]["MLFLOW_TRACKING_URI"] == f"http://{host}:5000", path.name
        args = manifests.one("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]
        assert any(one.startswith("--allowed-hosts=") and f"{host}:5000" in one for one in args)
        accounts = {one["name"]: one for one in cluster["secrets"] if one["name"].startswith("lorefuse-mlflow")}
        assert accounts.keys() == {"lorefuse-mlflow-trainer", "lorefuse-mlflow-promoter"}, "no step is administrator"
        assert accounts["lorefuse-mlflow-promoter"]["steps"] == ["register"], "the gate alone sets aliases"
        assert all(set(one["keys"]) <= SECRETS[name] for name, one in accounts.items())


def test_the_administrators_login_is_mlflows_and_the_jobs_alone(manifests: Manifests) -> None:
    holders = {
        name
        for name, container in manifests.containers()
        for variable in container.get("env", ())
        if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "lorefuse-mlflow"
    }
    assert holders == {"mlflow/mlflow", "mlflow-accounts/accounts"}
    (reconciler,) = manifests.one("Deployment", "reconciler")["spec"]["template"]["spec"]["containers"]
    login = {one["name"]: one for one in reconciler["env"]}["MLFLOW_TRACKING_PASSWORD"]
    assert login["valueFrom"]["secretKeyRef"] == {"name": "lorefuse-mlflow-reconciler", "key": "password"}


def test_mlflow_may_deliver_to_the_reconciler_alone(manifests: Manifests) -> None:
    (mlflow,) = manifests.one("Deployment", "mlflow")["spec"]["template"]["spec"]["containers"]
    hosts = listed_hosts({one["name"]: one.get("value", "") for one in mlflow["env"]})
    (job,) = manifests.one("Job", "mlflow-accounts")["spec"]["template"]["spec"]["containers"]
    url = re.findall(r"lorefuse webhook --url (\S+)", job["args"][0])[0]
    check_target(url, hosts)
    assert len(hosts) == 1
