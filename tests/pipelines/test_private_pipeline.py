"""A ranker with differential privacy, from files to Triton's answers, and what `lorefuse leaks` says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from lorefuse.deploy.ports import HOST
from lorefuse.registry.version import get_version
from tests.helpers.shop import (
    finished,
    grpc_port,
    lorefuse,
    no_serving,
    pipeline,
    serve_flags,
    write_preset,
    write_shop,
)

pytest.importorskip("opacus", reason="Opacus is not installed (pip install 'lorefuse[privacy]')")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("private")]
EPSILON = 8.0


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """Home, preset and environment of a shop whose ranker was trained within a budget."""
    path = tmp_path_factory.mktemp("shop")
    write_shop(path / "data")
    privacy = {"epsilon": EPSILON, "delta": 1e-4, "rows_per_user": 4, "users_per_step": 64}
    more = {"training__privacy": privacy, "leaks__num_models": 4, "evaluation__global_cut": False}
    config_path, home_path = write_preset(path / "data", **more), path / "home"
    environment = {"LOREFUSE_TRITON_URL": f"{HOST}:{grpc_port()}"}
    try:
        finished(pipeline(home_path, config_path, *serve_flags(), **environment))
        yield home_path, config_path, environment
    finally:
        assert lorefuse(home_path, "down", **environment).returncode == 0


def test_the_budget_stands_at_the_version(
    shop: tuple[Path, Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(shop[0]))
    mlflow.set_tracking_uri(f"sqlite:///{shop[0] / 'mlflow' / 'mlflow.db'}")
    tags = get_version("lorefuse-ranker", "1").tags
    assert 0 < float(tags["lorefuse.privacy_epsilon"]) <= EPSILON
    assert float(tags["lorefuse.privacy_delta"]) == 1e-4


@no_serving
@pytest.mark.triton
def test_it_is_served_like_any_other(shop: tuple[Path, Path, dict[str, str]]) -> None:
    home_path, _, environment = shop
    asked = lorefuse(home_path, "recommend", "--user", "u3", "-k", "5", **environment)
    assert asked.returncode == 0, asked.stderr
    assert len(re.findall(r"(Garden|Kitchen|Music|Sport) thing \d+", asked.stdout)) >= 5


def test_leaks_are_measured_by_the_command(shop: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    home_path, config_path, environment = shop
    run = lorefuse(home_path, "leaks", "--config", str(config_path), "--json", str(tmp_path / "l.json"), **environment)
    finished(run)
    content = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert content["privacy"]["epsilon"] <= EPSILON
    assert 0.3 < content["halves"]["lira"]["auc"]["mean"] < 0.7
    assert "verdict: " in run.stdout
    assert (home_path / "leaks.html").is_file()
    for step in ("split", "training_set", "evaluate"):  # no second split, and the run's own evaluation
        assert len(list(home_path.glob(f"cache/steps/{step}/[!.]*"))) == 1
