"""NetworkPolicies: nothing by default, and every connection that is needed let out on one side and in on the other."""

from __future__ import annotations

import pytest

from tests.helpers.manifests import Manifests, matches, port_names


def test_network_policies_deny_by_default_and_match_pods_and_ports(manifests: Manifests) -> None:
    policies = manifests.of("NetworkPolicy")
    default = manifests.one("NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies:
        name, spec = policy["metadata"]["name"], policy["spec"]
        chosen = manifests.matching(spec["podSelector"])
        assert chosen, f"{name} picks no pod"
        for rule in spec.get("ingress", ()):
            for _, pod in chosen:
                assert {port["port"] for port in rule["ports"]} <= port_names(pod).keys(), name
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    assert manifests.matching(peer["podSelector"]), f"{name}: {peer} is nobody"
        for rule in spec.get("egress", ()):
            for peer in rule["to"]:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    for _, pod in manifests.matching(peer["podSelector"]):
                        assert {port["port"] for port in rule["ports"]} <= port_names(pod).keys(), name


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("mlflow", "postgres", "postgres"),
        ("mlflow", "reconciler", "webhook"),
        ("reconciler", "mlflow", "http"),
        ("mlflow-accounts", "mlflow", "http"),
        ("reconciler", "triton", "grpc"),
        ("reconciler", "triton", "metrics"),
        ("triton", "redis", "redis"),
    ],
)
def test_traffic_that_is_needed_is_let_out_and_in(manifests: Manifests, source: str, target: str, port: str) -> None:
    assert _allows(manifests, "egress", "to", source, target, port)
    assert _allows(manifests, "ingress", "from", target, source, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [("triton", "postgres", "postgres"), ("triton", "mlflow", "http"), ("reconciler", "redis", "redis")],
)
def test_traffic_that_is_not_needed_stays_out(manifests: Manifests, source: str, target: str, port: str) -> None:
    assert not _allows(manifests, "ingress", "from", target, source, port)


def _allows(manifests: Manifests, direction: str, key: str, chosen: str, peer: str, port: str) -> bool:
    """Tell whether a policy of the pods `chosen` allows `peer` at a port in one direction."""
    labels = {name: pod["metadata"]["labels"] for name, pod in manifests.pods()}
    for policy in manifests.of("NetworkPolicy"):
        if not matches(policy["spec"]["podSelector"], labels[chosen]):
            continue
        for rule in policy["spec"].get(direction, ()):
            peers = [one["podSelector"] for one in rule[key] if "podSelector" in one and "namespaceSelector" not in one]
            if port in {one["port"] for one in rule["ports"]} and any(matches(one, labels[peer]) for one in peers):
                return True
    return False
