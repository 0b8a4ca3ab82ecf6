from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorefuse.core.settings import settings
from lorefuse.registry.local_store import create_store
from lorefuse.registry.run import Registration, register
from tests.helpers import artifacts


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's tables once: each test gets a copy."""
    folder = tmp_path_factory.mktemp("mlflow")
    create_store(folder / "mlflow.db", folder / "artifacts")
    return folder / "mlflow.db"


@dataclass
class Workbench:
    """A home with an empty MLflow store, and artifacts to register."""

    path: Path

    def register(self, name: str = "a", **changes: object) -> Registration:
        """Register the bundle `name`, made on first use; the same name is the same bundle."""
        noise, bias = float(changes.get("noise", 1.0)), float(changes.get("bias", ord(name) / 100))  # type: ignore[arg-type]
        paths = {kind: self.path / f"{kind}-{name}" for kind in ("bundle", "evaluation")}
        if not paths["bundle"].exists():
            artifacts.make_bundle(paths["bundle"], bias, vocabulary=str(changes.get("vocabulary", "a")))
            artifacts.make_evaluation(paths["evaluation"], noise, seed=ord(name))
        dataset = self.path / f"dataset-{changes.get('dataset', 'one')}"
        split = self.path / "split"
        if not dataset.exists():
            artifacts.make_dataset(dataset, dataset.name)
        if not split.exists():
            artifacts.make_split(split)
        report = self.path / "report.html"
        report.write_text("<p>report</p>")
        store = self.path / "store"
        store.mkdir(exist_ok=True)
        (store / "online_store.db").write_bytes(b"online features")
        return register(
            paths["bundle"],
            paths["evaluation"],
            report,
            artifacts.CONFIG,
            dataset_path=dataset,
            split_path=split,
            store_path=store,
            choice_path=changes.get("choice_path"),  # type: ignore[arg-type]
        )

    def evaluation(self, name: str) -> Path:
        return self.path / f"evaluation-{name}"


@pytest.fixture
def workbench(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    target_path = settings().home_path / "mlflow" / "mlflow.db"
    target_path.parent.mkdir(parents=True)
    shutil.copy(migrated_database, target_path)
    return Workbench(tmp_path)
