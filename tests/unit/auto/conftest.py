"""A small world whose negatives are sampled."""

from __future__ import annotations

import pytest

from lorefuse.config import NegativesConfig
from tests.helpers.feature_world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("world")
    return make_world(path, negatives=NegativesConfig(num_train=1, num_eval=2))
