"""Pieces of `lorefuse submit` that need no server: requests, arguments, the view of a run."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lorefuse.cli.main import app
from lorefuse.config import PipelineConfig
from lorefuse.config.cluster import load_cluster
from lorefuse.config.submission import Submission, ask
from lorefuse.core.errors import UsageError
from pipelines import client_watch
from pipelines.client_arguments import check_arguments, make_arguments
from pipelines.client_errors import server_message
from tests.helpers.shop import PROJECT_PATH

GOOD: dict[str, Any] = {"host": "http://127.0.0.1:8888", "experiment": "films", "config_path": "films.yaml"}
INPUTS: dict[str, dict[str, Any]] = {
    "rows": {"parameterType": "NUMBER_INTEGER"},
    "rate": {"parameterType": "NUMBER_DOUBLE", "isOptional": True},
    "arms": {"parameterType": "LIST", "isOptional": True},
    "options": {"parameterType": "STRUCT", "isOptional": True},
    "fast": {"parameterType": "BOOLEAN", "isOptional": True},
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"host": "ml-pipeline:8888"}, "--host"),
        ({"cron": "0 3 * * *"}, "did you mean '0 0 3 * * *'?"),
        ({"cron": "0 0 3 * * %"}, "no schedule can have"),
        ({"cron": "@daily", "wait": True}, "--wait does not go with --cron"),
        ({"catch_up": True}, "--catch-up needs --cron"),
        ({"version_name": "v1"}, "need --upload"),
        ({"max_concurrency": 0}, "--max-concurrency"),
        ({"pipeline": "../x"}, "--pipeline"),
        ({"timeout_s": -1}, "--timeout: expected"),
    ],
    ids=("host", "five fields", "field", "wait", "catch up", "version", "concurrency", "pipeline", "timeout"),
)
def test_requests_that_do_not_fit(content: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        ask(Submission, **{**GOOD, **content})
    assert words in str(raised.value)


@pytest.mark.parametrize("cron", ["0 0 3 * * *", "0 */15 * * * 1-5", "@daily", "@every 6h"])
def test_schedules(cron: str) -> None:
    assert ask(Submission, **GOOD, cron=cron).cron == cron


def test_parameters_by_type() -> None:
    params = ("rows=3", "rate=2", 'arms=["real", "none"]', 'options={"a": 1}', "options.b.c=true", "fast=True")
    assert make_arguments(INPUTS, PipelineConfig(), params) == {
        "rows": 3,
        "rate": 2.0,
        "arms": ["real", "none"],
        "options": {"a": 1, "b": {"c": True}},
        "fast": True,
    }


@pytest.mark.parametrize("param", ["rows=1.5", "rows=true", "rate=much", "arms=real", "options=[1]", "fast=1"])
def test_values_of_another_type(param: str) -> None:
    with pytest.raises(UsageError, match=param.split("=")[0]):
        make_arguments(INPUTS, PipelineConfig(), (param,))


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(UsageError) as raised:
        check_arguments(INPUTS, {"row": 1, "rate": "fast"})
    said = str(raised.value)
    for words in ("unknown: row (did you mean rows?)", "missing: rows", "rate: expected NUMBER_DOUBLE, got 'fast'"):
        assert words in said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": "short", "code": 3, "message": "the gateway\'s", "details": []}', "the gateway's"),
        ('{"error_message": "the upload handler\'s", "error_details": "long"}', "the upload handler's"),
        ("<html>\n<p>a proxy's</p>", "<html>"),
        ("", "Bad Gateway"),
    ],
)
def test_the_servers_own_words(body: str, words: str) -> None:
    error = kfp_server_api.ApiException(status=502, reason="Bad Gateway")
    error.body = body
    assert server_message(error) == words


def _run(*tasks: tuple[str, str], state: str = "RUNNING") -> Any:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    details = [
        kfp_server_api.V2beta1PipelineTaskDetail(
            display_name=name, state=status, start_time=start, end_time=start + timedelta(seconds=9)
        )
        for name, status in tasks
    ]
    return kfp_server_api.V2beta1Run(
        run_id="r",
        display_name="films",
        state=state,
        run_details=kfp_server_api.V2beta1RunDetails(task_details=details),
    )


def test_the_live_view_is_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(client_watch, "Console", lambda: Console(file=text, force_terminal=True, width=80))
    with client_watch._LiveView() as view:
        view.show(_run(("ingest", "RUNNING"), ("ingest-driver", "SUCCEEDED"), ("root", "RUNNING")))
        view.show(_run(("ingest", "SUCCEEDED"), ("embed", "FAILED"), state="FAILED"))
    said = text.getvalue()
    assert "films: failed" in said
    assert "driver" not in said
    assert "root" not in said


def test_a_run_without_tasks_or_times() -> None:
    run = kfp_server_api.V2beta1Run(run_id="r", display_name="films", state="RUNTIME_STATE_UNSPECIFIED")
    facts = client_watch.result_of(run, "http://page")
    assert facts == {
        "run_id": "r", "name": "films", "state": "PENDING", "url": "http://page", "elapsed_s": None, "error": "",
        "tasks": [],
    }  # fmt: skip
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert client_watch._elapsed_s(epoch, epoch) is None


DOCS = (PROJECT_PATH / "docs" / "cluster.md").read_text("utf-8")


def test_commands_of_the_docs_exist() -> None:
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", DOCS, flags=re.S)).replace("\\\n", " ")
    commands = re.findall(r"^lorefuse ([a-z-]+)([^#\n]*)", blocks, flags=re.M)
    assert {name for name, _ in commands} == {"compile", "submit", "result"}
    for name, rest in commands:
        said = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
        assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in said] == []
    for option in re.findall(r"^\| `(--[a-z-]+)", DOCS, flags=re.M):
        assert option in CliRunner().invoke(app, ["submit", "--help"], env={"COLUMNS": "200"}).output


def test_the_cluster_file_of_the_docs_validates(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCS, flags=re.S)
    (tmp_path / "cluster.yaml").write_text(text)
    assert load_cluster(tmp_path / "cluster.yaml").steps["tune"].cpu_limit == "8"
