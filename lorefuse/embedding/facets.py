"""Several texts per item: each facet is encoded and reduced for itself, and their blocks stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorefuse.config import EmbeddingConfig

REVIEWS_PROMPT = "reviews@1"
"""Stands for the template of a facet that is made of reviews."""
DEFAULT_FACET = "text"
"""Name of the only facet where the configuration names none."""


@dataclass(frozen=True)
class Facet:
    """One text of an item.

    Attributes:
        name: Its name.
        columns: Item columns that make up the text; a template given as text names its own.
        config: What encodes it: the embedding's configuration with this facet's prompt and no facets.
        reduce_dim: Width of its block in the text matrix.
        reviews: How many train reviews it is made of, in place of columns: only a split knows which, so the embeddings
            leave its block empty, and the item vectors fill it.
    """

    name: str
    columns: tuple[str, ...]
    config: EmbeddingConfig
    reduce_dim: int
    reviews: int = 0


def facets_of(config: EmbeddingConfig, item_text: Sequence[str] = ()) -> list[Facet]:
    """Return the facets in the order of their blocks.

    Args:
        config: Where it names no facets there is one, of the item_text roles.
        item_text: Columns of that one facet.

    Example:
        >>> config = EmbeddingConfig(facets={"name": ["title"], "about": ["genres", "year"]})
        >>> [(facet.name, facet.columns) for facet in facets_of(config)]
        [('name', ('title',)), ('about', ('genres', 'year'))]
        >>> [(facet.name, facet.columns) for facet in facets_of(EmbeddingConfig(), ["title"])]
        [('text', ('title',))]
    """
    if not config.facets:
        return [Facet(DEFAULT_FACET, tuple(item_text), config, config.reduce_dim)]
    return [
        Facet(
            facet.name,
            facet.columns,
            config.model_copy(
                update={"facets": (), "prompt": REVIEWS_PROMPT if facet.reviews else facet.prompt or config.prompt}
            ),
            facet.reduce_dim or config.reduce_dim,
            facet.reviews,
        )
        for facet in config.facets
    ]
