from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import PipelineConfig
from lorefuse.config.retrieval import SASRecConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Split
from lorefuse.export.onnx import export_module
from lorefuse.export.session import open_session
from lorefuse.lists.encoders import USER_VECTOR, encoded, load_encoder, past_matrix, sasrec_encoder, save_encoder
from lorefuse.lists.moments import moments_of
from lorefuse.lists.two_stage import PAST, sequence_of
from tests.helpers.taste_rows import NUM_ITEMS, make_taste_set, small_lists_config

SASREC = SASRecConfig(embedding_dim=8, num_heads=2, history_length=6, max_epochs=3, batch_size=16, num_threads=1)


def _config(**changed: int) -> PipelineConfig:
    config = small_lists_config()
    section = config.retrieval.model_copy(update={"sasrec": SASREC.model_copy(update=changed)})
    return config.model_copy(update={"retrieval": section})


def test_what_is_served_is_what_was_trained(tmp_path: Path) -> None:
    training_set = make_taste_set()
    config = _config()
    parts = sasrec_encoder(training_set, training_set.knowledge["text"], config.retrieval, 0.5, seed=0)
    assert parts.module is not None
    assert parts.facts == {"kind": "encoder", "length": 6, "num_items": NUM_ITEMS}
    moments = moments_of(training_set, Split.TEST, 50)
    vectors = encoded(parts, moments)
    save_encoder("sasrec", parts.module, tmp_path)
    again, example = load_encoder("sasrec", tmp_path, config)
    np.testing.assert_array_equal(encoded(replace(parts, module=again), moments), vectors)
    path = tmp_path / "sasrec.onnx"
    export_module(again, example, [PAST], [USER_VECTOR], path)
    session = open_session(path)
    for number in range(0, len(moments), 13):
        past = sequence_of(moments.liked[number], parts.facts)
        np.testing.assert_array_equal(past[0], past_matrix(moments, 6)[number])
        np.testing.assert_allclose(session.run(None, {PAST: past})[0][0], vectors[number], atol=1e-5)
    assert np.isfinite(session.run(None, {PAST: np.zeros((1, 6), np.int64)})[0]).all(), "nobody's past"
    with pytest.raises(ArtifactError, match="does not fit its config"):
        load_encoder("sasrec", tmp_path, _config(num_layers=3))


def test_items_that_joined_later_are_not_read() -> None:
    facts = {"length": 3, "num_items": 10}
    assert sequence_of(np.array([12, 4, 9]), facts).tolist() == [[0, 10, 5]]
