"""Ingest knows people by pseudonyms, leaves out who was forgotten and what is too old, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from lorefuse.config import DataConfig, FileSource, load_config, parse_config
from lorefuse.config.privacy import PrivacyConfig
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.settings import settings
from lorefuse.data import large
from lorefuse.data.append import append, source_of
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.intake import EXPIRED, Intake
from lorefuse.privacy.forgotten import Forgotten
from lorefuse.privacy.pseudonyms import KEY_VARIABLE, Pseudonymizer
from lorefuse.steps import data as steps
from lorefuse.steps.common import dump_config
from tests.unit.data.conftest import Shop
from tests.unit.privacy.conftest import OTHER_KEY

DAY_S = 86_400


def _ingested(config: DataConfig, path: Path, privacy: PrivacyConfig | None = None) -> Dataset:
    path.mkdir()
    ingest(config, path, Intake.of(privacy or PrivacyConfig(), config.source))
    return Dataset.open(path)


def _bytes_below(path: Path) -> bytes:
    texts = [pd.read_parquet(file).to_csv().encode() for file in path.rglob("*.parquet")]
    return b"\n".join([*texts, *(file.read_bytes() for file in path.rglob("*") if file.is_file())])


def test_no_file_of_the_dataset_holds_a_raw_id(shop: Shop, names: Pseudonymizer, tmp_path: Path) -> None:
    shop.write("users.csv", "user_id,country\nanna@example.org,DE\n+49 151 4711,FR\n")
    broken = ['"anna@example.org,i1,5', "anna@example.org,i1,5,1,2,3", "anna@example.org,nothing,5,1000"]
    shop.write_rows("anna@example.org,i1,5,1000", "+49 151 4711,i2,3,2000", "nobody@example.org,i1,4,1000", *broken)
    dataset = _ingested(shop.config(), tmp_path / "dataset")
    assert set(dataset.users()["user_id"]) == {names.of("anna@example.org"), names.of("+49 151 4711")}
    assert set(dataset.interactions()["user_id"]) == set(dataset.users()["user_id"])
    assert dataset.manifest["privacy"] == {"pseudonyms": names.fingerprint}
    held = _bytes_below(tmp_path / "dataset")
    for planted in (b"example.org", b"4711", settings().privacy_key.encode()):
        assert planted not in held
    rows = [json.loads(line) for line in (dataset.path / "quarantine.jsonl").read_text().splitlines()]
    assert {row["reason"].partition(":")[0] for row in rows} >= {"unknown user id", "unknown item id"}
    assert all(row["row"] is None or row["row"]["user_id"].startswith("psn_") for row in rows)


def test_a_record_beside_the_home_is_without_ids_too(shop: Shop, names: Pseudonymizer, tmp_path: Path) -> None:
    shop.write_rows("u1,i1,5,1000", *['"anna@example.org,i1'] * 3)
    with pytest.raises(DataError, match="rows cannot be used") as error:
        _ingested(shop.config(max_bad_share=0.1), tmp_path / "dataset")
    assert "anna" not in str(error.value)
    assert "anna" not in (settings().home_path / "quarantine.jsonl").read_text()


def test_batches_give_the_dataset_of_one_table(
    shop: Shop, names: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame(
        {"user_id": [f"u{n % 7}" for n in range(90)], "item_id": [f"i{1 + n % 3}" for n in range(90)]}
    ).assign(rating=[n % 5 + 1 for n in range(90)], timestamp=[n * DAY_S for n in range(90)])
    rows.to_parquet(shop.path / "interactions.parquet")
    source = {"interactions_path": shop.path / "interactions.parquet", "users_path": None, "user_categories": ()}
    config, privacy = shop.config(**source), PrivacyConfig(retention_days=60)
    Forgotten().with_ids(["u3"]).save(settings().home_path)
    whole = _ingested(config, tmp_path / "whole", privacy)
    monkeypatch.setattr(large, "MANY_ROWS", 1)
    monkeypatch.setattr(large, "BATCH_ROWS", 16)
    batches = _ingested(config, tmp_path / "batches", privacy)
    pd.testing.assert_frame_equal(whole.interactions(), batches.interactions())
    pd.testing.assert_frame_equal(whole.users(), batches.users())
    assert whole.manifest["quarantined"] == batches.manifest["quarantined"]
    assert whole.manifest["quarantined"]["interactions.parquet: forgotten"] == 13
    assert names.of("u3") not in set(whole.users()["user_id"])


def test_old_interactions_are_left_out_and_counted(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(f"u1,i1,5,{0}", f"u1,i2,3,{10 * DAY_S}", f"u2,i1,4,{11 * DAY_S}", f"u2,i3,2,{20 * DAY_S}")
    dataset = _ingested(shop.config(), tmp_path / "dataset", PrivacyConfig(pseudonyms=False, retention_days=10))
    assert len(dataset.interactions()) == 3
    assert dataset.manifest["quarantined"] == {f"interactions.csv: {EXPIRED}": 1}
    assert dataset.manifest["privacy"] == {"retention_days": 10}


def test_new_rows_move_the_days_that_are_kept(shop: Shop, names: Pseudonymizer, tmp_path: Path) -> None:
    shop.write_rows(f"u1,i1,5,{DAY_S}", f"u2,i2,3,{5 * DAY_S}")
    config = shop.config()
    intake = Intake.of(PrivacyConfig(retention_days=10), config.source)
    base = _ingested(config, tmp_path / "base", PrivacyConfig(retention_days=10))
    new_path = shop.write("new.csv", f"user_id,item_id,rating,timestamp\nu1,i3,4,{13 * DAY_S}\nu9,i1,1,{14 * DAY_S}\n")
    (tmp_path / "grown").mkdir()
    facts = append(base, config, new_path, None, tmp_path / "grown", intake)
    assert (facts["num_new"], facts["num_expired"], facts["num_new_users"]) == (2, 1, 1)
    grown = Dataset.open(tmp_path / "grown")
    assert list(grown.interactions()["user_id"]) == [names.of("u2"), names.of("u1"), names.of("u9")]
    assert b"u9" not in _bytes_below(tmp_path / "grown")


def test_a_datasets_own_files_are_not_hashed_again(shop: Shop, names: Pseudonymizer, tmp_path: Path) -> None:
    """What a refresh trains on again is such a source."""
    first = _ingested(shop.config(), tmp_path / "first")
    again = _ingested(DataConfig(source=source_of(first)), tmp_path / "again")
    pd.testing.assert_frame_equal(first.interactions(), again.interactions())


def test_another_key_is_other_data_and_never_mixed(
    shop: Shop, names: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _ingested(shop.config(), tmp_path / "first")
    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    other = Intake.of(PrivacyConfig(), shop.config().source)
    with pytest.raises(DataError, match=f"pseudonyms of the key {names.fingerprint}"):
        append(first, shop.config(), shop.path / "interactions.csv", None, tmp_path / "grown", other)
    with pytest.raises(DataError, match=r"interactions.parquet holds pseudonyms of another key"):
        _ingested(DataConfig(source=source_of(first)), tmp_path / "again")


def test_who_was_forgotten_does_not_come_back_under_any_name(
    shop: Shop, names: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write_rows("u1,i1,5,1000", "u1,i2,3,2000", "u2,i1,4,1500", "u2,i3,2,500", "u1,i3,5")
    Forgotten().with_ids(["u1", names.of("u1")]).save(settings().home_path)
    for number, privacy in enumerate((PrivacyConfig(), PrivacyConfig(pseudonyms=False))):
        dataset = _ingested(shop.config(), tmp_path / str(number), privacy)
        assert len(dataset.users()) == 1
        dropped = {name: n for name, n in dataset.manifest["quarantined"].items() if name.endswith("forgotten")}
        assert dropped == {"interactions.csv: forgotten": 2, "users.csv: forgotten": 1}
        assert "u1" not in (dataset.path / "quarantine.jsonl").read_text()
    text = (settings().home_path / "privacy" / "forgotten.jsonl").read_text()
    assert "u1" not in text.replace(json.loads(text.splitlines()[0])["salt"], "")
    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    assert len(_ingested(shop.config(), tmp_path / "other key").users()) == 1


def test_the_step_has_an_address_of_its_own_for_each_key_and_list(
    shop: Shop, names: Pseudonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = parse_config({"privacy": {}, "data": shop.config().model_dump(mode="json")})

    def built() -> tuple[str, bool]:
        result = steps.ingest(dump_config(pipeline))
        return result.path.name, result.reused

    first, _ = built()
    assert built() == (first, True)
    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    assert built()[0] != first
    monkeypatch.setenv(KEY_VARIABLE, settings().privacy_key)
    Forgotten().with_ids(["nobody we know"]).save(settings().home_path)
    assert built()[0] != first


def test_a_preset_that_names_the_section_asks_for_pseudonyms(tmp_path: Path) -> None:
    preset = tmp_path / "shop.yaml"
    preset.write_text("name: shop\nprivacy:\n")
    config = load_config(preset)
    assert config.privacy is not None
    assert config.privacy.pseudonyms
    preset.write_text("name: shop\n")
    assert load_config(preset).privacy is None
    assert "privacy" not in dump_config(load_config(preset))


def test_the_id_may_not_stand_in_another_column(shop: Shop) -> None:
    source = shop.config(user_categories=("user_id",)).source
    assert isinstance(source, FileSource)
    with pytest.raises(ConfigError, match=r"data.source.user_categories names 'user_id'"):
        parse_config({"privacy": {}, "data": {"source": source.model_dump(mode="json")}})
