"""Models of halves, what embeddings and texts give away, and the whole measurement on a small set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import DeepFMConfig, LeaksConfig, TrainingConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.leaks import run as leaks_run
from lorefuse.leaks.halves import halved, looked_at
from lorefuse.leaks.ids import id_exposure, recovered
from lorefuse.leaks.run import measure_membership, read_leaks
from lorefuse.leaks.texts import text_reconstruction
from lorefuse.models.build import build_ranker, save_ranker
from lorefuse.report.leaks import leaks_section, write_leaks
from lorefuse.training import pool
from tests.helpers.taste_rows import write_embeddings
from tests.helpers.training_rows import make_training_set, small_config


def test_a_half_leaves_half_of_the_interactions_out_and_what_was_sampled_for_them() -> None:
    whole = make_training_set()
    train = whole.rows_of(Split.TRAIN)
    half, other = halved(whole, [0, 0]), halved(whole, [0, 1])
    kept = half.rows_of(Split.TRAIN)
    assert len(kept) == len(train) - len(train) // 2
    assert set(kept) < set(train)
    assert not np.array_equal(kept, other.rows_of(Split.TRAIN))
    for part in (Split.VALIDATION, Split.TEST):
        np.testing.assert_array_equal(half.rows_of(part), whole.rows_of(part))
    assert (half.split_code[np.setdiff1d(train, kept)] == SPLIT_CODES[Split.EXCLUDED]).all()
    assert looked_at(whole, 50, 0).tolist() == sorted(set(looked_at(whole, 50, 0)))
    assert len(looked_at(whole, 10**6, 0)) == len(train)


def test_recovered_likes_are_a_share_of_pairs() -> None:
    score = np.array([[3.0, 1.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]])
    liked = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    other = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]], bool)
    # User 0: 3 beats both, 2 beats 1 and ties with 2.
    np.testing.assert_allclose(recovered(score, liked, other), [3.5 / 4, np.nan, 0.5])


def test_an_embedding_that_holds_its_train_likes_is_found_out() -> None:
    import torch

    whole, config = make_training_set(num_rows=1500), small_config()
    model = DeepFMConfig(embedding_dim=64, hidden_dims=(4,), fusion="none")
    ranker = build_ranker(model, whole.spec, seed=0)
    ranker.prepare(whole)
    train = whole.rows_of(Split.TRAIN)
    liked = train[whole.label[train] > 0.5]
    members, others = liked[::2], liked[1::2]
    members = members[~np.isin(_pairs(whole, members), _pairs(whole, others))]
    others = others[~np.isin(_pairs(whole, others), _pairs(whole, members))]
    untold = id_exposure(ranker, whole, members, others, config, 100)
    with torch.no_grad():  # items are told apart by a direction each; a user is the sum of what they liked as members
        item_table, user_table = ranker.item_embedding.table, ranker.user_embedding.table
        item_table.zero_()
        user_table.zero_()
        ids = whole.item_fields[:, 0]
        item_table[ids[ids > 0], 1 + ids[ids > 0]] = 1
        for row in members:
            user_table[whole.user_fields[whole.user_row[row], 0], 1 + ids[whole.item_row[row]]] = 1
    told = id_exposure(ranker, whole, members, others, config, 100)
    assert untold is not None
    assert told is not None
    np.testing.assert_allclose(told[0][np.isfinite(told[0])], 1)
    np.testing.assert_allclose(told[1][np.isfinite(told[1])], 0.5)
    assert abs(np.nanmean(untold[0]) - np.nanmean(untold[1])) < 0.1
    flat = build_ranker(DeepFMConfig(embedding_dim=4, hidden_dims=(4,)), whole.spec)
    flat.embedding_dim = 0  # a linear model, say
    assert id_exposure(flat, whole, members, others, config, 100) is None


def _pairs(training_set: object, rows: np.ndarray) -> np.ndarray:
    return training_set.user_row[rows].astype(np.int64) * 10_000 + training_set.item_row[rows]  # type: ignore[attr-defined]


def test_a_linear_image_of_a_text_leads_back_to_it() -> None:
    rng = np.random.default_rng(0)
    full = rng.normal(size=(200, 24)).astype(np.float32)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    stored = (full @ rng.normal(size=(24, 16))).astype(np.float32)
    found = text_reconstruction(stored, full)
    assert found is not None
    assert (found["distinct"], found["guessing"], found["num_items"]) == (1, 1 / 200, 200)
    assert found["learned"] > 0.9
    noise = text_reconstruction(rng.normal(size=stored.shape).astype(np.float32), full)
    assert noise is not None
    assert noise["learned"] < 0.1
    assert text_reconstruction(stored[:3], full[:3]) is None


def test_texts_that_share_a_vector_are_not_told_apart() -> None:
    full = np.eye(8, dtype=np.float32)
    stored = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 3, 3, 3]]
    found = text_reconstruction(stored, full)
    assert found is not None
    assert found["distinct"] == 1 / 8


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measurement of a ranker that learns its few rows by heart."""
    path = tmp_path_factory.mktemp("leaks")
    whole = make_training_set(num_rows=600)
    for name in ("rows", "evaluation/ranker", "out"):
        (path / name).mkdir(parents=True)
    whole.save(path / "rows")
    config = small_config(
        model=DeepFMConfig(embedding_dim=16, hidden_dims=(64,), dropout=0, id_dropout=0, fusion="none"),
        training=TrainingConfig(
            batch_size=32, learning_rate=0.03, max_epochs=25, patience=25, embedding_l2=0, weight_decay=0, ema_decay=0
        ),
        leaks=LeaksConfig(num_models=8, num_bootstraps=50),
    )
    ranker = build_ranker(config.model, whole.spec)
    ranker.prepare(whole)
    save_ranker(ranker, config.model, path / "evaluation" / "ranker")
    write_json(path / "evaluation" / "metrics.json", {"best_params": {"real": {}}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks_run, "run_parallel", lambda function, tasks, _: pool.run_parallel(function, tasks, 1))
        # The last epoch is kept, however bad it is for validation rows.
        patch.setattr("lorefuse.training.train.logloss", _later_is_better())
        measure_membership(path / "rows", path / "evaluation", config, path / "out")
    write_embeddings(whole, path / "embeddings")
    return path


def _later_is_better() -> object:
    count = iter(range(10**6))
    return lambda label, score: -float(next(count))


def test_what_a_ranker_knows_by_heart_is_found(measured: Path) -> None:
    content = json.loads((measured / "out" / "membership.json").read_text())
    halves = content["halves"]
    assert halves["lira"]["auc"]["low"] > 0.6
    assert halves["lira"]["auc"]["mean"] > halves["loss"]["auc"]["mean"] - 0.02
    assert halves["lira"]["tpr"]["mean"] > 0.03
    assert halves["loss"]["num_members"] == halves["loss"]["num_others"] == 8 * 210
    assert content["ids"]["halves"]["difference"]["mean"] > 0
    # The registered one was not trained at all: it knows nothing, whatever time does.
    assert content["registered"]["loss"]["auc"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert content["privacy"] is None


def test_the_page_says_what_was_found(measured: Path) -> None:
    content = {"name": "small", **read_leaks(measured / "out", measured / "rows", measured / "embeddings")}
    section = leaks_section(content)
    assert section["verdict"] == "train rows can be told better than by guessing"
    assert section["privacy"].startswith("none")
    page = write_leaks(content, measured / "out").read_text("utf-8")
    assert "Was this row trained on?" in page
    assert section["attacks"][0]["auc"] in page
    assert json.loads((measured / "out" / "leaks.json").read_text())["name"] == "small"
