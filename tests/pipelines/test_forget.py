"""A person is forgotten, by a command that is killed again and again: no byte of the home names them afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lorefuse.client import Client
from lorefuse.core.atomic import sha256_folder
from lorefuse.core.errors import LorefuseError
from lorefuse.deploy.ports import HOST
from lorefuse.erasure.receipt import check_receipt
from lorefuse.export.bundle import Bundle
from lorefuse.registry.version import fetch_bundle
from tests.helpers.new_rows import write_more_of_the_same
from tests.helpers.planted import MAIL, PHONE, places, plant
from tests.helpers.shop import (
    PROJECT_PATH,
    SERVES,
    environment,
    finished,
    grpc_port,
    lorefuse,
    pipeline,
    serve_flags,
    write_preset,
    write_shop,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("forget")]
ANNA, BOB = MAIL.format("Anna2"), PHONE.format(3)
NEEDLE = "Anna2.zq7"
TEXT = "She likes gardens more than music, and says so."
KILLS = (1, 3, 5, 8, 12)
"""Lines of the erasure's own note after which it is killed."""


@dataclass
class Shop:
    """A home in which a shop's pipeline ran."""

    home_path: Path
    data_path: Path
    config_path: Path
    environment: dict[str, str]
    said: list[str] = field(default_factory=list)

    def ask(self, *arguments: str) -> tuple[int, str]:
        run = lorefuse(self.home_path, *arguments, **self.environment)
        assert "Traceback" not in run.stdout + run.stderr, run.stdout + run.stderr
        return run.returncode, run.stdout + run.stderr

    def receipts(self) -> list[dict[str, Any]]:
        """Content of all receipts whose signature holds, oldest first."""
        return [check_receipt(path, None) for path in sorted(self.home_path.glob("privacy/receipts/*.json"))]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("shop")
    write_shop(path / "data")
    write_more_of_the_same(path / "data", path / "data" / "more.csv")
    for name in ("interactions.csv", "more.csv"):
        frame = pd.read_csv(path / "data" / name)
        broken = [f"{ANNA},i1,5", f"{BOB},nothing,5,1600000000"]
        lines = frame.assign(user_id=plant(frame["user_id"])).to_csv(index=False) + "\n".join(broken) + "\n"
        (path / "data" / name).write_text(lines)
    config_path = write_preset(path / "data", evaluation__global_cut=False)
    shop = Shop(path / "home", path / "data", config_path, {"LOREFUSE_TRITON_URL": f"{HOST}:{grpc_port()}"})
    try:
        finished(pipeline(shop.home_path, config_path, *serve_flags(), **shop.environment))
        code, said = shop.ask(
            "refresh", "--config", str(config_path), "--new", str(path / "data" / "more.csv"), "--no-deploy"
        )
        assert code == 0, said
        _plant_more(shop)
        yield shop
    finally:
        assert shop.ask("down")[0] == 0


def _plant_more(shop: Shop) -> None:
    """Put the person where this small run does not: what a language model wrote, a shadow log, a log, a draft."""
    written_path = shop.data_path / "enriched"
    written_path.mkdir()
    frame = pd.DataFrame({"user_id": [ANNA, BOB], "row_id": [1, 2], "text": [TEXT, "He likes sport."]})
    frame.to_parquet(written_path / "knowledge.parquet")
    with closing(sqlite3.connect(shop.home_path / "cache" / "answers.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE answers (address TEXT PRIMARY KEY, text TEXT, p INTEGER, c INTEGER)")
        connection.executemany("INSERT INTO answers VALUES (?, ?, 1, 1)", [("a", TEXT), ("b", "He likes sport.")])
    serve_path = shop.home_path / "serve"
    serve_path.mkdir(exist_ok=True)
    (serve_path / "shadow.jsonl").write_text(
        '{"user": "0123456789abcdef"}\n' + json.dumps({"user": _shadow(ANNA)}) + "\n"
    )
    (shop.home_path / "notes.log").write_text(f"asked for {ANNA} and {BOB}\n")
    (shop.home_path / ".report.html.0123.partial").write_text(f"<p>{ANNA}</p>")


def _shadow(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()[:16]


def test_a_dry_run_says_it_all_and_changes_nothing(shop: Shop) -> None:
    folders = ("cache", "runs", "mlflow/artifacts", "serve/model_repository")
    before = [sha256_folder(shop.home_path / name) for name in folders]
    code, said = shop.ask("forget", "--user", ANNA, "--dry-run", "--also", str(shop.data_path / "enriched"))
    assert code == 0, said
    assert "was trained on them: lorefuse-ranker version 1" in said
    assert f"not ours to edit: {shop.data_path / 'interactions.csv'}" in said
    for step in ("ingest", "append_rows", "features", "training_set", "evaluate"):
        assert re.search(rf"would be deleted: .*/cache/steps/{step}/", said), step
    assert [sha256_folder(shop.home_path / name) for name in folders] == before
    assert not (shop.home_path / "privacy").exists()


def test_export_holds_the_rows_the_features_and_the_versions(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "anna.json"
    code, said = shop.ask("export-user", "--user", ANNA, "--out", str(out))
    assert code == 0, said
    content = json.loads(out.read_text())
    raw = pd.read_csv(shop.data_path / "interactions.csv")
    held = {Path(entry["where"][0]).name: entry["held"] for entry in content["held"] if "/ingest/" in entry["where"][0]}
    assert len(held["interactions.parquet"]) == (raw["user_id"] == ANNA).sum() - 1  # the broken line
    assert any(entry["what"] == "online store" and entry["held"][0]["value"] for entry in content["held"])
    assert content["versions"] == [{"model": "lorefuse-ranker", "number": "1"}]
    assert BOB not in out.read_text()


def test_a_killed_erasure_is_taken_up_until_nothing_is_left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places(shop.home_path, [NEEDLE])
    with _asking(shop) as answers:
        for num_lines in KILLS:
            _killed_after(shop, num_lines)
        code, said = shop.ask("forget", "--user", ANNA, "--also", str(shop.data_path / "enriched"))
    assert code == 0, said
    assert places(shop.home_path, [NEEDLE, _shadow(ANNA), TEXT]) == []
    assert places(shop.data_path / "enriched", [NEEDLE]) == []
    (receipt,) = shop.receipts()
    assert receipt["remaining"] == []
    assert [entry["version"] for entry in receipt["retrain"]] == ["1"]
    assert receipt["sources"] == [str(shop.data_path / name) for name in ("interactions.csv", "more.csv")]
    assert not list(shop.home_path.glob("privacy/open/*"))
    assert not answers.failures
    assert answers.count > 0 or not SERVES
    monkeypatch.setenv("LOREFUSE_HOME", str(shop.home_path))
    fetch_bundle("lorefuse-ranker", "1", shop.home_path.parent / "fetched")  # the registry says what it holds


def test_everybody_else_is_still_there(shop: Shop) -> None:
    with closing(sqlite3.connect(shop.home_path / "cache" / "answers.sqlite")) as connection:
        assert connection.execute("SELECT text FROM answers").fetchall() == [("He likes sport.",)]
    assert (shop.home_path / "serve" / "shadow.jsonl").read_text() == '{"user": "0123456789abcdef"}\n'
    assert (shop.home_path / "notes.log").read_text() == f"asked for [forgotten] and {BOB}\n"
    assert len(pd.read_parquet(shop.data_path / "enriched" / "knowledge.parquet")) == 1
    for path in shop.home_path.glob("mlflow/artifacts/models/*/artifacts/bundle"):
        vocabulary = json.loads((path / "vocabularies.json").read_text())["user_id"]
        assert len(vocabulary) == len(set(vocabulary)) == 150
        assert BOB in vocabulary
        Bundle.load(path)


@pytest.mark.triton
@pytest.mark.skipif(not SERVES, reason="no serving environment: make setup")
def test_the_server_knows_them_no_more_and_everybody_else_as_before(shop: Shop) -> None:
    assert "nothing yet" in shop.ask("recommend", "--user", ANNA)[1]
    assert re.search(r"liked: (Garden|Kitchen|Music|Sport) thing", shop.ask("recommend", "--user", BOB)[1])
    assert "version 1 answers" in shop.ask("status")[1]
    code, said = shop.ask("score", "--user", BOB, "--item-text", "Garden thing made of wood")
    assert code == 0, said


def test_once_more_changes_nothing(shop: Shop) -> None:
    before = {path: path.stat().st_mtime_ns for path in shop.home_path.glob("mlflow/artifacts/**/*") if path.is_file()}
    code, said = shop.ask("forget", "--user", ANNA)
    assert code == 0, said
    assert shop.receipts()[-1]["done"] == []
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_version_past_its_deadline_is_not_promoted(shop: Shop) -> None:
    assert shop.ask("promote", "1")[0] == 0
    path = shop.home_path / "privacy" / "retrain.json"
    content = json.loads(path.read_text())
    assert datetime.fromisoformat(content["versions"][0]["deadline"]) - datetime.now(UTC) > timedelta(days=29)
    content["versions"][0]["deadline"] = "2020-01-01T00:00:00+00:00"
    path.write_text(json.dumps(content))
    code, said = shop.ask("promote", "1")
    assert code == 2
    assert "was trained on people who were forgotten" in said


def test_the_same_raw_files_do_not_bring_them_back(shop: Shop) -> None:
    run = pipeline(shop.home_path, shop.config_path, "--no-deploy", **shop.environment)
    finished(run)
    registered = re.search(r"register +\w+ .* version (\d+)", run.stdout)
    assert registered is not None, run.stdout
    assert places(shop.home_path, [NEEDLE]) == []
    manifests = [json.loads(path.read_text()) for path in shop.home_path.glob("cache/steps/ingest/[!.]*/manifest.json")]
    assert [one["quarantined"]["interactions.csv: forgotten"] for one in manifests] == [_num_rows(shop)]
    assert shop.ask("promote", registered[1])[0] == 0


def _num_rows(shop: Shop) -> int:
    return int((pd.read_csv(shop.data_path / "interactions.csv")["user_id"] == ANNA).sum()) - 1


def _killed_after(shop: Shop, num_lines: int) -> None:
    """Start an erasure and kill it once its note has so many lines, or earlier where it has ended."""
    code = "from lorefuse.cli.main import main; main()"
    command = [sys.executable, "-c", code, "forget", "--user", ANNA, "--also", str(shop.data_path / "enriched")]
    env = environment(shop.home_path, **shop.environment)
    process = subprocess.Popen(
        command, env=env, cwd=PROJECT_PATH, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline_s = time.monotonic() + 200
    while _noted(shop) < num_lines:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert list(shop.home_path.glob("privacy/open/*.jsonl")), "it was killed on its way"


def _noted(shop: Shop) -> int:
    lines = [line for path in shop.home_path.glob("privacy/open/*.jsonl") for line in path.read_text().splitlines()]
    return sum(1 for line in lines if line)


class _asking:  # noqa: N801 (a context)
    """Ask the server for other people all the while, where there is one."""

    def __init__(self, shop: Shop) -> None:
        self.url, self.count, self.failures = shop.environment["LOREFUSE_TRITON_URL"], 0, list[str]()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> _asking:
        if SERVES:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        if SERVES:
            self.thread.join(30)

    def _ask(self) -> None:
        with Client(self.url, privacy_key="", max_retries=0) as client:
            while not self.ended.wait(0.02):
                try:
                    assert client.recommend(BOB).liked_titles
                    self.count += 1
                except (LorefuseError, AssertionError) as error:
                    self.failures.append(repr(error))
