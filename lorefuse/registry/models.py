"""Which registered model a command means where nobody named one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Alias
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_MODEL = "lorefuse-ranker"


def known_models(client: MlflowClient | None = None) -> dict[str, dict[str, str]]:
    """Return every registered model with its aliases: alias → version."""
    client = client or connect()
    with explained("look for models"):
        names = [str(model.name) for model in client.search_registered_models()]
    return {name: aliases(name, client) for name in sorted(names)}


def model_of(named: str | None, client: MlflowClient | None = None) -> str:
    """Return the model that is named, else the one with a champion: the default one, or the only one of its own.

    Raises:
        UsageError: Nobody named one, and several models have a champion.
    """
    if named:
        return named
    models = known_models(client)
    served = [name for name, known in models.items() if Alias.CHAMPION in known] or list(models)
    if DEFAULT_MODEL in served or not served:
        return DEFAULT_MODEL
    if len(served) > 1:
        raise UsageError(
            "Several models have a champion.",
            expected="the name of one of them",
            got=", ".join(served),
            fix=f"--model {served[0]}, or model_name in the file of the deployment",
        )
    return served[0]
