"""Running studies in real PostgreSQL: one that was killed goes on from what the database holds, on any machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorefuse import steps
from lorefuse.config import PipelineConfig
from lorefuse.core.errors import ConfigError, UnreachableError
from lorefuse.core.settings import settings
from lorefuse.tuning import study
from lorefuse.tuning.journal import RECORD, DatabaseJournal
from tests.helpers.store_servers import HOST, PASSWORD, Server, postgres_url, spare_port
from tests.helpers.training_rows import make_training_set

NUM_TRIALS = 5
CONFIG = steps.dump_config(
    PipelineConfig.model_validate({"name": "stored", "tuning": {"num_trials": NUM_TRIALS, "pruning": True}})
)


@pytest.fixture
def rows_path(tmp_path: Path) -> Path:
    path = tmp_path / "rows"
    path.mkdir()
    make_training_set().save(path)
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Parameters of the trials that were run; a trial is a formula here, for what is tested is where it is kept."""
    seen: list[dict[str, Any]] = []

    def run(_: Any, tasks: list[study.TrialTask], __: int) -> list[dict[str, Any]]:
        seen.extend(task.params for task in tasks)
        results = []
        for task in tasks:
            value = 0.5 + task.params["dropout"] / 7 - task.params["learning_rate"]
            state = "COMPLETE" if task.params["dropout"] < 0.3 else "PRUNED"
            record = {"value": value, "num_epochs": 2, "curve": [value / 3, value], "duration_s": 0.1}
            results.append({"params": task.params, "state": state, **record})
        return results

    monkeypatch.setattr(study, "run_parallel", run)
    return seen


def on_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(path))


def records_of(path: Path) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads((path / "study.json").read_text("utf-8"))
    return list(content["trials"])


def test_a_killed_study_goes_on_from_the_database(
    production: dict[str, str],
    rows_path: Path,
    tmp_path: Path,
    trained: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second machine has another home: all it shares with the first is PostgreSQL."""
    on_machine(tmp_path / "one", monkeypatch)
    run, rounds = study.run_parallel, iter([True, True, False])

    def killed(*arguments: Any) -> Any:
        if not next(rounds):
            raise KeyboardInterrupt
        return run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_parallel", killed)
        with pytest.raises(KeyboardInterrupt):
            steps.tune(CONFIG, "real", rows_path)
    assert not list((tmp_path / "one").rglob("journals"))
    assert len(trained) == 4
    on_machine(tmp_path / "two", monkeypatch)
    resumed = steps.tune(CONFIG, "real", rows_path)
    assert len(trained) == NUM_TRIALS
    monkeypatch.setenv("LOREFUSE_PROFILE", "local")
    on_machine(tmp_path / "three", monkeypatch)
    undisturbed = steps.tune(CONFIG, "real", rows_path)
    assert records_of(resumed.path) == records_of(undisturbed.path)
    assert resumed.digest == undisturbed.digest
    assert PASSWORD not in (resumed.path / "study.json").read_text("utf-8")


def test_optunas_own_tools_see_the_study(
    production: dict[str, str],
    rows_path: Path,
    tmp_path: Path,
    trained: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    on_machine(tmp_path / "home", monkeypatch)
    found = records_of(steps.tune(CONFIG, "none", rows_path).path)
    storage = settings().tuning_storage_url.replace("postgresql", "postgresql+psycopg", 1)
    (name,) = [name for name in optuna.get_all_study_names(storage) if name.startswith("stored-none-")]
    stored = optuna.load_study(study_name=name, storage=storage)
    assert [json.loads(trial.user_attrs[RECORD]) for trial in stored.trials] == found
    assert [trial.state.name for trial in stored.trials] == [record["state"] for record in found]
    assert {trial.state.name for trial in stored.trials} == {"COMPLETE", "PRUNED"}
    assert stored.best_value == max(record["value"] for record in found if record["state"] == "COMPLETE")
    assert stored.trials[-1].params == pytest.approx(found[-1]["params"])
    DatabaseJournal(settings().tuning_storage_url, name).keep(found, [])
    assert DatabaseJournal(settings().tuning_storage_url, name).read() == found


def test_a_database_that_is_not_there_is_one_message(postgres: Server) -> None:
    right = postgres_url(postgres.port)
    urls = (f"{right}/nowhere", f"postgresql://lorefuse:{PASSWORD[:3]}@{HOST}:{spare_port()}/optuna")
    for url in urls:
        with pytest.raises(UnreachableError, match="storage of studies") as caught:
            DatabaseJournal(url, "any").read()
        assert "s3c" not in str(caught.value)
    with pytest.raises(ConfigError, match="not a PostgreSQL URL"):
        DatabaseJournal("mysql://me:word@db/x", "any").read()
