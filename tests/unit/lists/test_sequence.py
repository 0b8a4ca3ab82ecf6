from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.contract import Split
from lorefuse.errors import ArtifactError
from lorefuse.export.onnx import export_module
from lorefuse.export.session import open_session
from lorefuse.lists.moments import moments_of
from lorefuse.lists.sequence import USER_VECTOR, fit_sequence, load_sequence, past_matrix, save_sequence, with_sequence
from lorefuse.lists.two_stage import PAST, sequence_of
from tests.unit.lists.samples import NUM_ITEMS, make_taste_set

CONFIG = SASRecConfig(embedding_dim=8, num_heads=2, history_length=6, max_epochs=3, batch_size=16, num_threads=1)


def test_what_is_served_is_what_was_trained(tmp_path: Path) -> None:
    training_set = make_taste_set()
    served = fit_sequence(training_set, training_set.item_text, CONFIG, 0.5, seed=0)
    moments = moments_of(training_set, Split.TEST, 50)
    (vectors,) = with_sequence(moments, served, CONFIG.history_length).vectors
    save_sequence(served, tmp_path)
    again = load_sequence(tmp_path, CONFIG)
    np.testing.assert_array_equal(with_sequence(moments, again, CONFIG.history_length).vectors[0], vectors)
    path = tmp_path / "sequence.onnx"
    export_module(again, {PAST: torch.ones(2, 6, dtype=torch.int64)}, [PAST], [USER_VECTOR], path)
    facts, session = {"sequence_length": 6, "sequence_items": NUM_ITEMS}, open_session(path)
    for number in range(0, len(moments), 13):
        past = sequence_of(moments.liked[number], facts)
        np.testing.assert_array_equal(past[0], past_matrix(moments, 6)[number])
        np.testing.assert_allclose(session.run(None, {PAST: past})[0][0], vectors[number], atol=1e-5)
    assert np.isfinite(session.run(None, {PAST: np.zeros((1, 6), np.int64)})[0]).all(), "nobody's past"
    with pytest.raises(ArtifactError, match="does not fit its config"):
        load_sequence(tmp_path, CONFIG.model_copy(update={"num_layers": 3}))


def test_items_that_joined_later_are_not_read() -> None:
    facts = {"sequence_length": 3, "sequence_items": 10}
    assert sequence_of(np.array([12, 4, 9]), facts).tolist() == [[0, 10, 5]]
