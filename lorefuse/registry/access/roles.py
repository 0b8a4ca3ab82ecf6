"""The roles on an MLflow that several use, and what each may change there.

MLflow's own permissions cannot tell who may create a version from who may set an alias: both are EDIT on the model, and
whoever creates a model may do anything with it from then on. So a role has two halves, and a request must pass both:
the permissions that MLflow grants it (`GRANTS`), and the changes listed here. What is not listed is refused, also what
a later MLflow may bring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from lorefuse.registry.deployment import DEPLOYMENT_TAG, REQUEST_TAG


class Role(StrEnum):
    """A role, by the name that it has in MLflow; an account may have several."""

    TRAINER = "lorefuse-trainer"
    PROMOTER = "lorefuse-promoter"
    RECONCILER = "lorefuse-reconciler"
    READER = "lorefuse-reader"


GRANTS: dict[Role, dict[str, str]] = {
    Role.TRAINER: {"experiment": "EDIT", "registered_model": "EDIT"},
    # MANAGE, for taking an alias away is a deletion to MLflow.
    Role.PROMOTER: {"experiment": "EDIT", "registered_model": "MANAGE"},
    Role.RECONCILER: {"experiment": "READ", "registered_model": "READ", "registered_model_version": "EDIT"},
    Role.READER: {"experiment": "READ", "registered_model": "READ"},
}
"""What MLflow grants each role, on all resources of a type."""

CREATE_VERSION, SET_TAG = "POST mlflow/model-versions/create", "POST mlflow/model-versions/set-tag"
_ALIAS = "mlflow/registered-models/alias"
_ASKED_BY_POST = frozenset(
    {
        "POST /graphql",  # MLflow's schema has no mutation that writes
        "POST mlflow/artifacts/presigned-download-url",
        "POST mlflow/datasets/search",
        "POST mlflow/experiments/search",
        "POST mlflow/experiments/search-datasets",
        "POST mlflow/issues/search",
        "POST mlflow/logged-models/search",
        "POST mlflow/registered-models/get-latest-versions",
        "POST mlflow/runs/search",
        "POST mlflow/traces/batchGetInfos",
        "POST mlflow/traces/calculate-filter-correlation",
        "POST mlflow/traces/metrics",
        "POST mlflow/traces/search",
        "POST mlflow/ui-telemetry",
    }
)
_TRAINED = frozenset(
    {
        CREATE_VERSION,
        "POST mlflow/registered-models/create",
        "POST mlflow/experiments/create",
        "POST mlflow/experiments/set-experiment-tag",
        "POST mlflow/runs/create",
        "POST mlflow/runs/update",
        "POST mlflow/runs/log-batch",
        "POST mlflow/runs/log-inputs",
        "POST mlflow/runs/log-metric",
        "POST mlflow/runs/log-model",
        "POST mlflow/runs/log-parameter",
        "POST mlflow/runs/outputs",
        "POST mlflow/runs/set-tag",
        "POST mlflow/logged-models",
        "POST mlflow/logged-models/<model_id>/params",
        "PATCH mlflow/logged-models/<model_id>",
        "PATCH mlflow/logged-models/<model_id>/tags",
        "PUT mlflow-artifacts/artifacts/<path:artifact_path>",
        "POST mlflow-artifacts/mpu/create/<path:artifact_path>",
        "POST mlflow-artifacts/mpu/complete/<path:artifact_path>",
        "POST mlflow-artifacts/mpu/abort/<path:artifact_path>",
    }
)
CHANGES: dict[Role, frozenset[str]] = {
    Role.TRAINER: _TRAINED,
    Role.PROMOTER: _TRAINED | {SET_TAG, f"POST {_ALIAS}", f"DELETE {_ALIAS}"},
    Role.RECONCILER: frozenset({SET_TAG}),
    Role.READER: frozenset(),
}
"""The requests by which each role may change something: method and route, without ``/api/2.0/``."""


def operation(method: str, route: str) -> str:
    """Return a request as `CHANGES` writes it; the API's paths and the UI's ``/ajax-api`` come out alike.

    Args:
        method: Of HTTP.
        route: The server's own pattern that the path fits, such as ``/api/2.0/mlflow/webhooks/<webhook_id>``; empty
            where none fits.
    """
    return f"{method} {re.sub(r'^/(?:ajax-)?api/[0-9]+[.][0-9]+/(?:preview/)?(?=mlflow)', '', route)}"


def why_not(roles: Iterable[str], asked: str, tags: Iterable[str] = ()) -> str:
    """Return why an account may not do something, in words; empty where it may.

    Args:
        roles: What MLflow says that it is; names that are none of ours give nothing.
        asked: The request (`operation`).
        tags: Keys of tags that it would write to a version.
    """
    ours = sorted({Role(name) for name in roles if name in tuple(Role)})
    if asked.partition(" ")[0] in ("GET", "HEAD", "OPTIONS") or asked in _ASKED_BY_POST:
        return ""  # MLflow's own permissions decide what may be seen
    for role in ours:
        if asked in CHANGES[role] and all(_may_tag(role, key) for key in tags):
            return ""
    return f"{asked} is not for {' and '.join(ours) or 'an account without a role'}"


def _may_tag(role: Role, key: str) -> bool:
    """Return whether a role writes such a tag: what is deployed is said by the reconciler, all else by the others."""
    if role is Role.RECONCILER:
        return key.startswith(DEPLOYMENT_TAG) and key != REQUEST_TAG
    return not key.startswith(DEPLOYMENT_TAG) or (role is Role.PROMOTER and key == REQUEST_TAG)
