"""Item text → vectors."""

from kfp import dsl

from components.base import step


@step
def embed(config: dict, dataset: dsl.Input[dsl.Dataset], embeddings: dsl.Output[dsl.Artifact]) -> None:  # type: ignore[type-arg]
    """Encode every item's text with a language model; only texts never seen before cost anything.

    Args:
        config: `PipelineConfig` as a dict.
        dataset: Dataset folder.
        embeddings: One vector per item and the address that made it.
    """
    from lorefuse import steps

    steps.embed(config, dataset.path).publish(embeddings.path)
