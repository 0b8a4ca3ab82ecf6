"""Rows of a race over a small world."""

from __future__ import annotations

from lorefuse.auto.rows import race_rows
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.feature_world import CONFIG, World


def rows_of(world: World, max_rows: int = 10**6) -> TrainingSet:
    return race_rows(world.dataset, world.split_path, world.vectors, CONFIG, max_rows, seed=0)
