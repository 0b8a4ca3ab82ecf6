"""`lorefuse init`, `doctor` and `config`: a project begun, looked at and explained."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from lorefuse.auto.choice_file import asked_digest
from lorefuse.auto.pinned import pinned_path
from lorefuse.cli import doctor
from lorefuse.cli.main import SECTIONS, app
from lorefuse.config import load_config, parse_config
from lorefuse.config.explain import reference, schema
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import DataError, UsageError
from lorefuse.data.guess import guess_data, read_sample

EVENTS = "Customer,SKU,Created_At,stars\nu1,007,2024-01-01,5\nu2,008,2024-01-02,3\n"
ITEMS = "SKU,Name,Brand,tags,price\n007,Red lamp,IKEA,a|b,3.5\n008,Blue lamp,Other,b,4\n"


def write_files(path: Path, events: str = EVENTS, items: str = ITEMS) -> tuple[Path, Path]:
    (path / "events.csv").write_text(events, "utf-8")
    (path / "items.csv").write_text(items, "utf-8")
    return path / "events.csv", path / "items.csv"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_shows_every_command_once() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(one.name or one.callback.__name__ for one in app.registered_commands)  # type: ignore[union-attr]
    text = run("--help")
    assert text.index("Start:") < text.index("  run ") < text.index("Serve:") < text.index("Cluster:")


def test_a_project_of_ones_own_files(tmp_path: Path) -> None:
    events_path, items_path = write_files(tmp_path)
    run("init", tmp_path / "Mein Laden", "--interactions", events_path, "--items", items_path, "--no-serving")
    config = load_config(tmp_path / "Mein Laden" / "lorefuse.yaml")
    source = config.data.source
    assert config.name == "mein-laden"
    assert config.auto is not None, "a race chooses the model"
    assert (source.user_id, source.item_id, source.timestamp, source.value) == (
        "Customer",
        "SKU",
        "Created_At",
        "stars",
    )
    assert (source.item_text, source.item_categories) == (("Name",), ("Brand",))
    assert (source.item_multi_categories, source.item_numerics) == (("tags",), ("price",))
    assert ".venv-serve/" in (tmp_path / "Mein Laden" / ".gitignore").read_text()


def test_a_project_of_the_demo(tmp_path: Path) -> None:
    run("init", tmp_path / "films", "--no-serving")
    assert load_config(tmp_path / "films" / "lorefuse.yaml").data.source.kind == "movielens_100k"


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "lorefuse.yaml").write_text("name: mine\n", "utf-8")
    with pytest.raises(UsageError, match="is there already"):
        run("init", tmp_path, "--no-serving")
    with pytest.raises(UsageError, match="belong together"):
        run("init", tmp_path / "new", "--items", tmp_path / "items.csv", "--no-serving")
    assert not (tmp_path / "new").exists()


def test_columns_that_cannot_be_recognised_are_asked_for(tmp_path: Path) -> None:
    events_path, items_path = write_files(tmp_path, EVENTS.replace("Customer", "who"))
    with pytest.raises(DataError, match=r"looks like user_id[\s\S]*got: who, SKU[\s\S]*--user-id"):
        guess_data(events_path, items_path, None, {})
    assert guess_data(events_path, items_path, None, {"user_id": "who"})["source"]["user_id"] == "who"
    with pytest.raises(DataError, match="no column 'wen'"):
        guess_data(events_path, items_path, None, {"user_id": "wen"})
    write_files(tmp_path, EVENTS, "SKU,Brand\n007,IKEA\n")
    with pytest.raises(DataError, match="looks like a title"):
        guess_data(events_path, items_path, None, {})


@pytest.mark.parametrize(
    ("cells", "label", "negatives"),
    [
        (["5", "3"], 4, False), (["1", "0"], 1, False), (["10", "2"], 7, False), (["1", "1"], 1, True),
        (["view", "buy"], 1, True), (None, 1, True),
    ],
)  # fmt: skip
def test_what_counts_as_a_like(tmp_path: Path, cells: list[str] | None, label: int, negatives: bool) -> None:
    events = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": ["2024-01-01", "2024-01-02"]})
    if cells:
        events["event"] = cells
    events_path, items_path = tmp_path / "events.parquet", tmp_path / "items.jsonl"
    events.to_parquet(events_path)
    items_path.write_text(
        '{"item": "x", "title": "X", "genres": "a,b"}\n{"item": "y", "title": "Y", "genres": "b,c"}\n'
    )
    data = guess_data(events_path, items_path, None, {})
    source = data["source"]
    assert (data["label"]["threshold"], "negatives" in data) == (label, negatives)
    assert source["multi_separator"] == ","
    assert set(source.get("event_values", {})) == ({"view", "buy"} if cells == ["view", "buy"] else set())
    parse_config({"name": "x", "data": data})


def test_a_sample_is_the_head_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("a;b\n" + "1;2\n" * 5000, "utf-8")
    assert read_sample(path, 100).shape == (99, 2)
    for text in ("", None):
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        with pytest.raises(DataError):
            read_sample(path)


def test_config_says_where_each_value_is_from(tmp_path: Path) -> None:
    events_path, items_path = write_files(tmp_path)
    path = tmp_path / "lorefuse.yaml"
    source = guess_data(events_path, items_path, None, {})["source"]
    path.write_text(yaml.safe_dump({"name": "mine", "data": {"source": source}, "training": {"seed": 3}}), "utf-8")
    lines = {line.split()[0]: line for line in run("config", "--config", path).splitlines()}
    assert lines["training.seed"].endswith("3  # lorefuse.yaml")
    assert "#" not in lines["model.family"]
    assert "auto.budget_s" in lines
    config = load_config(path)
    chosen = config.model_copy(update={"auto": None, "model": parse_config({"model": {"family": "din"}}).model})
    race = {"asked": asked_digest(config), "config": chosen.as_preset()}
    write_json(pinned_path("mine").with_suffix(".json"), race)
    lines = {line.split()[0]: line for line in run("config", "--config", path).splitlines()}
    assert lines["model.family"].endswith('"din"  # chosen by the race')
    assert lines["training.seed"].endswith("3  # lorefuse.yaml")


def test_every_key_is_explained() -> None:
    text = reference()
    for key in ("`budget_s`", "`item_multi_categories`", "`num_trials`", "`alignment_weight`", "## model (din)"):
        assert key in text
    assert json.loads(run("config", "--schema")) == schema()
    assert run("config", "--reference") == text + "\n"


def test_doctor_names_what_is_missing_and_what_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOREFUSE_SERVE_PYTHON", str(tmp_path / "nothing" / "python"))
    monkeypatch.setenv("LOREFUSE_TRITON_URL", "127.0.0.1:1")
    findings = {one.name: one for one in doctor.examine()}
    assert findings["serving environment"].state == doctor.MISSING
    assert "setup-serving" in findings["serving environment"].fix
    assert findings["packages of [train]"].state == doctor.OK
    assert findings["Triton"].state == doctor.OPTIONAL
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 2
    assert "missing   serving environment" in result.output


def test_doctor_knows_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.1")
    findings = {one.name: one for one in doctor.examine()}
    assert findings["packages of [pipelines]"].state == doctor.MISSING
    assert "boto3 0.1, not <2,>=1.44" in findings["packages of [pipelines]"].found
    assert findings["packages of [enrich]"].state == doctor.OPTIONAL
