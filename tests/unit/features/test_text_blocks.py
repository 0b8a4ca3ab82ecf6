"""The spec lists the knowledge blocks; one that an older release wrote is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lorefuse.features.build import make_spec
from lorefuse.features.interactions import Tables
from lorefuse.training_set.spec import CategoricalField, FeatureSpec, KnowledgeBlock
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.knowledge import blocks

FIELD = (CategoricalField(name="user_id", size=2),)


def tables() -> Tables:
    ids = np.zeros((3, 1), dtype=np.int64)
    return Tables(
        vocabularies={},
        user_specs=FIELD,
        item_specs=FIELD,
        multi_specs=(),
        user_fields=ids,
        item_fields=ids,
        item_multi=ids[:, :0],
    )


def test_the_spec_has_the_blocks_of_the_vectors_in_their_order(tmp_path: Path) -> None:
    knowledge = {"text": np.ones((3, 7), np.float32), "sound": np.ones((3, 2), np.float32)}
    vectors = ItemVectors(3, knowledge, {"addresses": {"sound": "abc"}})
    spec = make_spec(tables(), vectors, "binary", "2020-01-01T00:00:00+00:00")
    assert spec.knowledge == (KnowledgeBlock(name="text", dim=7), KnowledgeBlock(name="sound", dim=2, address="abc"))
    assert spec.item_tensors[-2:] == spec.knowledge_tensors == ("item_text", "item_sound")
    assert [spec.width(name) for name in ("item_text", "item_sound", "item_graph")] == [7, 2, 0]
    facets = [(facet.name, facet.against, facet.dim) for facet in spec.interest]
    assert facets[2:] == [("liked_sound", "item_sound", 2), ("centred_sound", "item_sound", 2)]
    spec.save(tmp_path)
    assert FeatureSpec.load(tmp_path) == spec


def test_a_spec_of_before_knowledge_was_a_list_is_read(tmp_path: Path) -> None:
    new = FeatureSpec(user_fields=FIELD, item_fields=FIELD, knowledge=blocks(text=7, graph=3))
    old = new.model_dump(mode="json", exclude={"knowledge"}) | {"text_dim": 7, "text_blocks": [4, 3], "graph_dim": 3}
    (tmp_path / "feature_spec.json").write_text(json.dumps(old), "utf-8")
    assert FeatureSpec.load(tmp_path) == new
    (tmp_path / "feature_spec.json").write_text(json.dumps(old | {"text_dim": 0, "graph_dim": 0}), "utf-8")
    assert FeatureSpec.load(tmp_path).knowledge == ()


@pytest.mark.parametrize("name", ["fields", "numeric", "Text", "two words", "", "1st"])
def test_a_block_has_a_name_that_no_other_part_of_an_item_has(name: str) -> None:
    with pytest.raises(ValidationError):
        KnowledgeBlock(name=name, dim=2)


def test_vectors_come_back_from_disk_in_their_order(tmp_path: Path) -> None:
    knowledge = {"text": np.ones((3, 7), np.float32), "art": np.ones((3, 2), np.float32)}
    ItemVectors(3, knowledge, {"data_cutoff": "now"}, profile=np.zeros((1, 7), np.float32)).save(tmp_path)
    back = ItemVectors.load(tmp_path)
    assert (list(back.knowledge), back.num_items, back.facts["data_cutoff"]) == (["text", "art"], 3, "now")
    assert back.profile is not None
    assert back.context is None
