"""The whole path: CSV files → kfp's local runner → MLflow → real Triton → answers; then once more, reused."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lorefuse.deploy.ports import HOST
from tests.helpers.shop import (
    SERVES,
    finished,
    grpc_port,
    lorefuse,
    no_serving,
    pipeline,
    serve_flags,
    write_shop,
)

REUSED = ("ingest", "embed", "features", "tune", "evaluate")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shop")]


@dataclass
class Shop:
    """A home in which the shop's pipeline ran once."""

    home_path: Path
    config_path: Path
    first: subprocess.CompletedProcess[str]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self) -> subprocess.CompletedProcess[str]:
        return pipeline(self.home_path, self.config_path, *serve_flags(), **self.environment)

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return lorefuse(self.home_path, *arguments, **self.environment)

    def metrics(self) -> dict[str, Any]:
        """Content of the only finished evaluation."""
        (path,) = self.home_path.glob("cache/steps/evaluate/[!.]*/metrics.json")
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("shop")
    config_path, home_path = write_shop(path / "data"), path / "home"
    environment = {"LOREFUSE_TRITON_URL": f"{HOST}:{grpc_port()}"}
    try:
        yield Shop(home_path, config_path, pipeline(home_path, config_path, *serve_flags(), **environment), environment)
    finally:
        stopped = lorefuse(home_path, "down", **environment)
        assert stopped.returncode == 0, stopped.stderr
        if SERVES:
            assert re.search(r"Triton\s+stopped", stopped.stdout), stopped.stdout


def test_run_finishes_every_step(shop: Shop) -> None:
    finished(shop.first)
    steps = re.findall(r"^  (\w+) +(built|reused)", shop.first.stdout, re.MULTILINE)
    expected = {"ingest", "embed", "split", "item_vectors", "features", "materialize", "training_set", "tune"}
    expected |= {"choose", "evaluate", "lists", "bundle", "report", "register"} | ({"deploy"} if SERVES else set())
    assert {step for step, _ in steps} == expected
    assert (shop.home_path / "report.html").stat().st_size > 10_000
    assert "Traceback" not in shop.first.stdout + shop.first.stderr


def test_model_is_registered_as_champion(shop: Shop) -> None:
    finished(shop.first)
    said = shop.ask("status")
    assert said.returncode == 0, said.stderr
    assert "lorefuse-ranker@champion: version 1" in said.stdout
    assert "lorefuse-ranker@challenger: version 1" in said.stdout
    if SERVES:
        assert "version 1 answers" in said.stdout


def test_ranker_learns_more_with_knowledge_than_by_chance(shop: Shop) -> None:
    finished(shop.first)
    register = next(line for line in shop.first.stdout.splitlines() if line.startswith("  register"))
    auc = re.search(r"auc_warm (\d\.\d+)", register)
    assert auc is not None
    assert float(auc[1]) > 0.6


@pytest.mark.triton
@no_serving
@pytest.mark.parametrize("user", ["u3", "nobody-knows-me"])
def test_triton_answers_known_and_unknown_users(shop: Shop, user: str) -> None:
    finished(shop.first)
    said = shop.ask("recommend", "--user", user, "-k", "5")
    assert said.returncode == 0, said.stderr
    titles = re.findall(r"(?:Garden|Kitchen|Music|Sport) thing \d+", said.stdout.split("Top 5", 1)[1])
    assert len(set(titles)) == 5
    assert "model version 1" in said.stdout
    assert ("nothing yet" in said.stdout) == (user == "nobody-knows-me")


@pytest.mark.triton
@no_serving
def test_triton_scores_a_new_item(shop: Shop) -> None:
    finished(shop.first)
    said = shop.ask("score", "--user", "u3", "--item-text", "Garden thing made of wood")
    assert said.returncode == 0, said.stderr
    assert re.search(r"score 0\.\d+: rank \d+ of 8[01] for user u3", said.stdout), said.stdout


def test_second_run_reuses_and_agrees(shop: Shop) -> None:
    """Last in the file: it runs the pipeline again."""
    finished(shop.first)
    before = shop.metrics()
    second = shop.run()
    finished(second)
    words = re.findall(r"^  (\w+) +(built|reused)", second.stdout, re.MULTILINE)
    for step in REUSED:
        assert {word for name, word in words if name == step} == {"reused"}, second.stdout
    assert shop.metrics() == before
    assert "lorefuse-ranker@champion: version 1" in shop.ask("status").stdout
