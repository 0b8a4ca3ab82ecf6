"""Champion → Triton."""

from kfp import dsl

from components.base import step


@step
def deploy(
    config: dict,  # type: ignore[type-arg]
    version: str,
    promoted: bool,
    bundle: dsl.Input[dsl.Model],
    store: dsl.Input[dsl.Artifact],
) -> str:
    """Bring the version to serve if it is champion; otherwise what is served stays.

    Args:
        config: `PipelineConfig` as a dict.
        version: Number of the model version.
        promoted: Whether it is champion.
        bundle: The bundle.
        store: Feature store with the online features.

    Returns:
        gRPC address of the server.
    """
    from lorefuse import steps

    return str(steps.deploy(config, version, promoted, bundle.path, store.path)["url"])
