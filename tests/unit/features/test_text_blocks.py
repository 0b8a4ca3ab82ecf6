"""The spec says where one text facet ends and the next begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.schema import Tensor
from lorefuse.features.build import make_spec
from lorefuse.features.interactions import Tables
from lorefuse.training_set.spec import CategoricalField, FeatureSpec
from lorefuse.training_set.vectors import ItemVectors


def vectors_of(facts: dict[str, object]) -> ItemVectors:
    known = np.ones(3, dtype=bool)
    return ItemVectors(np.ones((3, 7), np.float32), np.ones((3, 2), np.float32), known, known, facts)


def tables() -> Tables:
    ids = np.zeros((3, 1), dtype=np.int64)
    field = (CategoricalField(name="user_id", size=2),)
    return Tables(
        vocabularies={},
        user_specs=field,
        item_specs=field,
        multi_specs=(),
        user_fields=ids,
        item_fields=ids,
        item_multi=ids[:, :0],
    )


@pytest.mark.parametrize(("facts", "blocks"), [({"text_blocks": [4, 3]}, (4, 3)), ({"text_blocks": [7]}, ()), ({}, ())])
def test_blocks_of_several_facets(facts: dict[str, object], blocks: tuple[int, ...], tmp_path: Path) -> None:
    spec = make_spec(tables(), vectors_of(facts), "binary", "2020-01-01T00:00:00+00:00")
    assert spec.text_blocks == blocks
    assert spec.width(Tensor.ITEM_TEXT) == 7
    spec.save(tmp_path)
    assert FeatureSpec.load(tmp_path) == spec
