from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.schema import Split
from lorefuse.features.arms import with_knowledge
from lorefuse.lists import run as lists_run
from lorefuse.lists.moments import moments_of, stack
from lorefuse.lists.run import knowledge_blocks, run_lists, wants_candidates
from lorefuse.lists.stage_files import CANDIDATES_FILE, load_stages
from lorefuse.lists.tables import content_table, knowledge_vectors, new_item_places
from lorefuse.models.build import build_ranker, save_ranker
from lorefuse.training import pool
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.taste_rows import NUM_ITEMS, NUM_NEW, make_taste_set, small_lists_config, taste_of, write_embeddings


def _ranker(training_set: TrainingSet, path: Path) -> Path:
    config = small_lists_config()
    ranker = build_ranker(config.model, training_set.spec, seed=0)
    ranker.prepare(training_set)
    path.mkdir(parents=True)
    save_ranker(ranker, config.model, path)
    return path


def _run(path: Path, training_set: TrainingSet, **candidates: object) -> tuple[dict[str, Any], Path]:
    config = small_lists_config(**candidates)
    (path / "rows").mkdir(parents=True)
    training_set.save(path / "rows")
    rankers = {
        arm: _ranker(with_knowledge(training_set, arm, config.features), path / arm) for arm in config.evaluation.arms
    }
    out_path = path / "out"
    out_path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists_run, "run_parallel", lambda function, tasks, _: pool.run_parallel(function, tasks, 1))
        embeddings = write_embeddings(training_set, path / "embeddings")
        return run_lists(path / "rows", rankers, embeddings, config, out_path), out_path


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, Path]:
    training_set = make_taste_set()
    return training_set, _run(tmp_path_factory.mktemp("lists"), training_set)[1]


def test_the_served_list_beats_popularity_and_finds_new_items(judged: tuple[TrainingSet, Path]) -> None:
    content = json.loads((judged[1] / "lists.json").read_text())
    assert {"served", "popularity", "item_knn", "ease", "none"} < set(content["lists"])
    assert len({"without the ranker", "with the ranker"} & set(content["lists"])) == 1
    served = content["lists"]["served"]["metrics"]
    assert served["ndcg_at_10_warm"]["mean"] > 2 * content["lists"]["popularity"]["metrics"]["ndcg_at_10_warm"]["mean"]
    assert served["ndcg_at_10_cold"]["mean"] > 0.3
    without = content["lists"]["none"]["metrics"]["ndcg_at_10_cold"]["mean"]
    assert served["ndcg_at_10_cold"]["mean"] > without + 0.1
    assert content["verdicts"]["cold"] == "helped"
    assert content["gains"]["popularity"]["ndcg_at_10_warm"]["low"] > 0
    groups = content["groups"]
    assert set(groups["items"]) == set(content["lists"])
    assert sum(row["num_users"] for row in groups["users"]["activity"]) == content["num_users"]
    assert (
        groups["items"]["popularity"]["head"]["exposure"]["mean"]
        > groups["items"]["served"]["head"]["exposure"]["mean"]
    )
    assert {"half-life" in content["settings"]["item_knn"], content["settings"]["popularity"] == ""} <= {True, False}


def test_what_is_written_is_what_was_judged(judged: tuple[TrainingSet, Path]) -> None:
    training_set, path = judged
    stages = load_stages(path).two_stage()
    moments = moments_of(training_set, Split.TEST, 50)
    values = pd.read_parquet(path / "list_values.parquet")
    assert values["user_row"].tolist() == moments.users.tolist()
    for number in range(0, len(moments), 17):
        rows, scores = stages.find(moments.past(number), moments.hidden[number])
        shown = values["list"][number]
        if stages.asks_ranker:
            assert set(shown[shown >= 0]) <= set(rows)
        else:
            np.testing.assert_array_equal(stages.order(rows, scores)[0], shown[shown >= 0])
        assert not np.isin(shown, moments.hidden[number]).any()


def test_the_same_run_gives_the_same_bytes(judged: tuple[TrainingSet, Path], tmp_path: Path) -> None:
    _, again = _run(tmp_path / "again", make_taste_set())
    for name in ("candidates.json", "candidates.safetensors", "lists.json"):
        assert (again / name).read_bytes() == (judged[1] / name).read_bytes()


@pytest.mark.parametrize(
    "candidates",
    [
        {"views": []},
        {"views": ["content"]},
        {"ranker": "identity"},
        {"max_ease_items": 0},
        {"new_item_neighbours": 0},
    ],
)
def test_every_part_may_be_left_out(candidates: dict[str, Any], tmp_path: Path) -> None:
    summary, path = _run(tmp_path / "part", make_taste_set(), **candidates)
    facts = load_stages(path).facts
    assert "served" in summary
    assert facts["tables"] == {
        "views": candidates.get("views"), "max_ease_items": ["item_knn", "content"],
    }.get(next(iter(candidates)), ["ease", "item_knn", "content"])  # fmt: skip
    if candidates.get("ranker") == "identity":
        assert not facts["final"]["ranker"]


def test_views_beside_the_tables_are_learned_and_written(tmp_path: Path) -> None:
    training_set = make_taste_set()
    views = ["ease", "user_knn", "graph_content"]  # there is no graph: that view is left out
    _, path = _run(tmp_path / "more", training_set, views=views)
    fitted = load_stages(path)
    assert (fitted.facts["tables"], list(fitted.facts["readers"])) == (["ease"], ["user_knn"])
    assert np.abs(fitted.arrays["weights"][:, 3]).max() > 0.01, "after three scores of EASE's comes UserKNN's"
    moments, stages = moments_of(training_set, Split.TEST, 50), fitted.two_stage()
    values = pd.read_parquet(path / "list_values.parquet")
    rows, _ = stages.find(moments.past(0), moments.hidden[0], moments.user_vectors(0))
    shown = values["list"][0]
    assert set(shown[shown >= 0]) <= set(rows)


def test_given_weights_are_kept_and_only_new_items_are_lifted(tmp_path: Path) -> None:
    weights = {"user_knn": 1.0, "content": 0.25, "popularity": 0.5}
    training_set = make_taste_set()
    _, path = _run(tmp_path / "given", training_set, views=list(weights), weights=weights, ranker="identity")
    fitted = load_stages(path)
    assert list(fitted.facts["readers"]) == ["content", "user_knn"]
    np.testing.assert_array_equal(fitted.arrays["weights"], np.float32([[0.25, 1, 0, 0]] * 2))
    popular, popular_short, _, new_short = fitted.arrays["biases"]
    assert (popular, popular_short, new_short) == (0.5, 0, 0)
    assert "none" in json.loads((path / "lists.json").read_text())["lists"]  # whose list does without content


def test_a_weight_of_a_view_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not allow[\s\S]*got: content"):
        _run(tmp_path / "bare", make_taste_set(text=False), views=["content"], weights={"content": 1})


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({"views": ["ease", "ease"]}, "each view once"),
        ({"weights": {"ease": 1}}, "must name the views, ease, item_knn, content"),
        ({"views": ["ease"], "weights": {"ease": 0}}, "not all be 0"),
        ({"views": ["bm25"]}, "graph_content"),
    ],
)
def test_views_and_weights_that_do_not_fit_are_refused(candidates: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_lists_config(**candidates)


def test_items_without_any_text_or_graph_still_get_a_list(tmp_path: Path) -> None:
    _, path = _run(tmp_path / "bare", make_taste_set(text=False))
    assert load_stages(path).facts["tables"] == ["ease", "item_knn"]


def test_a_catalogue_has_a_blend_at_every_size_unless_an_index_is_asked_for() -> None:
    training_set, config = make_taste_set(), small_lists_config()
    assert wants_candidates(training_set, 0.5, config)
    for retrieval, blends in (({"mode": "ann"}, False), ({"threshold": NUM_ITEMS - 1}, True)):
        section = config.serving.retrieval.model_copy(update=retrieval)
        searched = config.model_copy(update={"serving": config.serving.model_copy(update={"retrieval": section})})
        assert wants_candidates(training_set, 0.5, searched) == blends


def test_no_likes_no_candidates(tmp_path: Path) -> None:
    training_set = make_taste_set()
    training_set.label[training_set.rows_of(Split.VALIDATION)] = 0
    summary, path = _run(tmp_path / "none", training_set)
    assert summary == {"mode": "none"}
    assert not (path / CANDIDATES_FILE).exists()


def test_the_past_is_newest_first_and_knows_nothing_of_the_judged_part() -> None:
    training_set = make_taste_set()
    for part in (Split.VALIDATION, Split.TEST):
        moments = moments_of(training_set, part, 5)
        first_row = {
            int(user): int(np.flatnonzero((training_set.user_row == user) & (training_set.split_code == code))[0])
            for user, code in zip(moments.users, [1 if part == Split.VALIDATION else 2] * len(moments), strict=True)
        }
        for number, user in enumerate(moments.users):
            before = np.arange(first_row[int(user)])
            own = before[(training_set.user_row[before] == user) & ~training_set.cold[before]][::-1]
            np.testing.assert_array_equal(moments.seen[number], training_set.item_row[own][:5])
            liked = own[training_set.label[own] > 0.5]
            np.testing.assert_array_equal(moments.liked[number], training_set.item_row[liked][:5])
            assert moments.states[number] == first_row[int(user)]


def test_thinning_keeps_users_with_what_is_theirs() -> None:
    moments = moments_of(make_taste_set(), Split.TEST, 5)
    few = moments.thinned(7)
    assert len(few) == 7
    places = np.searchsorted(moments.users, few.users)
    for number, place in enumerate(places):
        np.testing.assert_array_equal(few.liked[number], moments.liked[place])
    assert (few.warm.toarray() == moments.warm[places].toarray()).all()
    assert stack(few.liked, 3).shape == (7, 3)


def test_new_items_take_the_place_of_their_likes() -> None:
    training_set = make_taste_set()
    known = np.arange(NUM_ITEMS) < NUM_ITEMS - NUM_NEW
    vectors = knowledge_vectors([training_set.knowledge["text"]], known)
    assert vectors is not None
    places = new_item_places(vectors, known, 3)
    sources, targets = places.nonzero()
    assert (targets >= NUM_ITEMS - NUM_NEW).all()
    assert (taste_of(sources) == taste_of(targets)).all()
    table = content_table(vectors, small_lists_config(num_neighbours=5).candidates)
    rows, columns = table.nonzero()
    assert (taste_of(rows) == taste_of(columns)).all()
    assert (rows != columns).all()
    assert knowledge_vectors([np.zeros((NUM_ITEMS, 3), np.float32)], known) is None


def test_shuffled_texts_are_other_items_texts(tmp_path: Path) -> None:
    training_set = make_taste_set()
    embeddings, config = write_embeddings(training_set, tmp_path / "embeddings"), small_lists_config()
    shuffled = with_knowledge(training_set, "shuffled", config.features, 0)
    (block,) = knowledge_blocks(shuffled, "shuffled", embeddings, config, 0).values()
    np.testing.assert_array_equal(block, shuffled.knowledge["text"])  # the order is that of the arm's other vectors
    assert knowledge_blocks(with_knowledge(training_set, "none", config.features), "none", embeddings, config, 0) == {}
