"""A recommender's name → the recommender, as the configuration wants it."""

from __future__ import annotations

from collections.abc import Callable

from lorefuse.config.retrieval import MemberName, RecommenderName, RetrievalConfig
from lorefuse.retrieval.cold_start import TextInherited
from lorefuse.retrieval.content import ContentCosine
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.hybrid import Hybrid
from lorefuse.retrieval.neighbours import ItemKNN, UserKNN
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Recommender

TRAINED = frozenset({"two_tower", "light_gcn", "sasrec"})
"""Recommenders that draw something: each seed gives another one."""
COLLABORATIVE = frozenset({"item_knn", "user_knn", "ease"})
"""Recommenders that score an item by the likes it has: to them all new items are the same."""


def build_recommender(name: RecommenderName, config: RetrievalConfig, seed: int = 0) -> Recommender:
    """Return a fresh recommender.

    Args:
        name: As in `RetrievalConfig.recommenders`.
        config: Its settings, and everybody's.
        seed: Of what it draws.
    """
    return _BUILDERS[name](config, seed)


def seeds_of(name: RecommenderName, config: RetrievalConfig) -> tuple[int, ...]:
    """Return the seeds worth fitting: one for a recommender that draws nothing."""
    drawn = name in TRAINED or (name == "hybrid" and not TRAINED.isdisjoint(config.hybrid_weights))
    return tuple(range(config.num_seeds)) if drawn else (0,)


def _hybrid(config: RetrievalConfig, seed: int) -> Recommender:
    members = [(_member(name, config, seed), weight) for name, weight in config.hybrid_weights.items()]
    return Hybrid(members, config.fusion, config.hybrid_grid)


def _member(name: MemberName, config: RetrievalConfig, seed: int) -> Recommender:
    member = build_recommender(name, config, seed)
    if name in COLLABORATIVE and config.new_item_neighbours:
        return TextInherited(member, config.new_item_neighbours, config.new_item_strength)
    return member


def _two_tower(config: RetrievalConfig, seed: int) -> Recommender:
    from lorefuse.retrieval.two_tower import TwoTower

    return TwoTower(config.two_tower, seed)


def _light_gcn(config: RetrievalConfig, seed: int) -> Recommender:
    from lorefuse.retrieval.light_gcn import LightGCN

    return LightGCN(config.light_gcn, seed)


def _sasrec(config: RetrievalConfig, seed: int) -> Recommender:
    from lorefuse.retrieval.sasrec import SASRec

    return SASRec(config.sasrec, seed)


_BUILDERS: dict[str, Callable[[RetrievalConfig, int], Recommender]] = {
    "popularity": lambda config, _: Popularity(config.popularity_half_life),
    "item_knn": lambda config, _: ItemKNN(config.num_neighbours, config.shrinkage),
    "user_knn": lambda config, _: UserKNN(config.num_neighbours, config.shrinkage),
    "ease": lambda config, _: Ease(config.ease_l2),
    "content": lambda config, _: ContentCosine(config.content_centre),
    "hybrid": _hybrid,
    "two_tower": _two_tower,
    "light_gcn": _light_gcn,
    "sasrec": _sasrec,
}
