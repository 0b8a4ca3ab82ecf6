"""`lorefuse submit` against the stand-in API server: contract-tested, not run on a cluster."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorefuse.config import load_config
from lorefuse.config.submission import Query, Submission, ask
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import SECOND_STRATEGY
from lorefuse.steps import dump_config
from pipelines import client, submit
from pipelines import compile as compile_module
from pipelines.client_errors import Retry
from pipelines.training import training
from tests.helpers.kfp_api import KfpApi
from tests.helpers.shop import PROJECT_PATH, environment
from tests.helpers.small_pipeline import small

PRESET = PROJECT_PATH / "pipelines" / "configs" / "movielens_100k.yaml"
CPU, GPU = (PROJECT_PATH / "pipelines" / "clusters" / f"{name}.yaml" for name in ("cpu", "gpu"))
TOKEN = "canary-token-71ab"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    """A server that wants the token; a stranger's kfp context in HOME must not matter."""
    context = tmp_path / ".config" / "kfp" / "context.json"
    context.parent.mkdir(parents=True)
    context.write_text(json.dumps({"namespace": "a-namespace-of-another-cluster"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(client.TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(compile_module, "find_pipeline", lambda _: small)
    monkeypatch.setattr(Retry, "__init__", lambda self: vars(self).update(num_attempts=3, first_delay_s=0.01))
    with KfpApi(token=TOKEN) as api:
        api.experiments["experiment-0"] = _experiment("films")
        yield api
    assert api.problems == []


def _experiment(name: str) -> Any:
    import kfp_server_api

    return kfp_server_api.V2beta1Experiment(experiment_id="experiment-0", display_name=name)


def send(server: KfpApi, **more: Any) -> int:
    """Submit in this process, as `python -m pipelines.submit` would."""
    content = {"host": server.host, "experiment": "films", "config_path": PRESET, "cluster_path": CPU, "poll_s": 0.01}
    content.update(more)
    return submit.main(["submit", ask(Submission, **content).model_dump_json(exclude_none=True)])


def test_a_run_is_started_with_the_service_account_of_the_cluster_file(server: KfpApi, tmp_path: Path) -> None:
    cluster_path = tmp_path / "own.yaml"
    cluster_path.write_text(CPU.read_text("utf-8") + "service_account: trainer\n", "utf-8")
    assert send(server, cluster_path=cluster_path) == 0
    assert server.calls("POST", "/runs")[0].body["service_account"] == "trainer"


def test_run_carries_the_pipeline_its_platform_and_the_preset(server: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_module, "find_pipeline", lambda _: training)
    assert send(server, cluster_path=GPU) == 0
    (sent,) = server.calls("POST", "/runs")
    # No service account: `pipeline-runner` is not there in the profiles of a Kubeflow for several.
    assert set(sent.body) == {"display_name", "experiment_id", "pipeline_spec", "runtime_config"}
    assert sent.body["display_name"].startswith("movielens-100k-training-")
    assert sent.body["runtime_config"]["pipeline_root"] == "s3://lorefuse/pipelines"
    config = load_config(PRESET)
    strategy = config.split.strategy
    assert sent.body["runtime_config"]["parameters"] == {
        "config": dump_config(config),
        "strategy": strategy,
        "second_strategy": SECOND_STRATEGY[strategy],
        "serve": False,
    }
    steps = sent.body["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert steps["exec-embed"]["pvcMount"][0]["mountPath"] == "/var/lib/lorefuse"
    assert {sent.headers["authorization"] for sent in server.sent} == {f"Bearer {TOKEN}"}
    assert {sent.query.get("namespace", "") for sent in server.sent} == {""}


def test_params_are_parsed_by_the_inputs_types(server: KfpApi) -> None:
    assert send(server, params=("serve=TRUE", "strategy=global_time", "config.training.max_epochs=3")) == 0
    parameters = server.calls("POST", "/runs")[0].body["runtime_config"]["parameters"]
    assert (parameters["serve"], parameters["strategy"]) == (True, "global_time")
    assert parameters["config"]["training"]["max_epochs"] == 3


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("strateg=global_time", ("no parameter strateg", "did you mean strategy?")),
        ("serve=perhaps", ("serve does not fit", "BOOLEAN", "perhaps")),
        ("config=[1]", ("config does not fit", "STRUCT")),
        ("strategy", ("no pair", "name=value")),
        ("strategy.x=1", ("strategy has no parts",)),
        ("config.training.max_epoch=3", ("training.max_epoch", "unknown key")),
        ("config.training.learning_rate=-1", ("greater than 0",)),
        ("config.name.x=1", ("name in config.name.x is no section",)),
    ],
)
def test_a_wrong_parameter_is_refused_before_a_byte_is_sent(
    server: KfpApi, capsys: pytest.CaptureFixture[str], param: str, words: tuple[str, ...]
) -> None:
    assert send(server, params=(param,)) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert server.sent == []


def test_files_of_this_machine_are_refused(server: KfpApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = tmp_path / "shop.yaml"
    text = "data: {{source: {{kind: files, interactions_path: {0}/a.csv, items_path: {0}/b.csv}}}}"
    preset.write_text(text.format("shop"))
    assert send(server, config_path=preset, cluster_path=GPU) == 2
    assert "names files of this machine" in capsys.readouterr().err
    assert server.sent == []
    preset.write_text(text.format("/var/lib/lorefuse/shop"))
    assert send(server, config_path=preset, cluster_path=GPU) == 0


def test_a_run_that_could_come_to_nothing_is_refused(
    server: KfpApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOREFUSE_IMAGE", raising=False)
    assert send(server, cluster_path=None) == 2
    monkeypatch.setenv("LOREFUSE_IMAGE", "registry.example.org/python:1")
    assert send(server, cluster_path=None) == 2
    said = capsys.readouterr().err
    assert "No image is named" in said
    assert "would vanish with its pods" in said
    assert server.sent == []


def test_unknown_experiment_is_offered_and_created_when_agreed(
    server: KfpApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(server, experiment="books") == 2
    assert "--create-experiment" in capsys.readouterr().err
    assert server.calls("POST", "/.*") == []
    assert send(server, experiment="books", create_experiment=True) == 0
    assert server.calls("POST", "/experiments")[0].body["display_name"] == "books"
    assert send(server, experiment="books") == 0
    assert len(server.calls("POST", "/experiments")) == 1


def test_on_a_terminal_it_asks_whether_to_create(server: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["n", "Yes"])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert send(server, experiment="books") == 2
    assert send(server, experiment="books") == 0
    assert len(server.calls("POST", "/experiments")) == 1


def test_upload_once_then_reuse_then_another_version(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(server, upload=True) == 0
    assert send(server, upload=True) == 0
    assert [len(server.calls("POST", f"/pipelines/{call}")) for call in ("upload", "upload_version")] == [1, 1]
    assert "is there already" in capsys.readouterr().out
    assert send(server, upload=True, version_name="v2", cluster_path=GPU) == 0
    references = [sent.body["pipeline_version_reference"] for sent in server.calls("POST", "/runs")]
    assert references[0] == references[1] != references[2]
    assert "pipeline_spec" not in server.calls("POST", "/runs")[0].body
    assert [version.display_name for version in server.versions.values()][-1] == "v2"
    pipeline, platform = server.packages["version-3"]
    assert pipeline.pipeline_info.name == "lorefuse-small"
    assert "exec-embed" in platform.platforms["kubernetes"].deployment_spec.executors


def test_a_taken_version_name_is_said(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(server, upload=True, version_name="v1") == 0
    assert send(server, upload=True, version_name="v1") == 2
    server.fail("POST", "/pipelines/upload_version", 409)
    assert send(server, upload=True, version_name="v2") == 2
    said = capsys.readouterr().err
    assert "has a version v1 already" in said
    assert "The name is taken" in said


@pytest.mark.parametrize("catch_up", [False, True])
def test_recurring_run(server: KfpApi, catch_up: bool) -> None:
    assert send(server, cron="0 30 3 * * 1-5", catch_up=catch_up, max_concurrency=2, name="nightly") == 0
    (sent,) = server.calls("POST", "/recurringruns")
    assert sent.body["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * 1-5"}}
    assert (sent.body["no_catchup"], sent.body["max_concurrency"]) == (not catch_up, 2)
    assert (sent.body["mode"], sent.body["display_name"]) == ("ENABLE", "nightly")
    assert send(server, cron="0 30 3 * * 1-5", name="nightly") == 2
    assert len(server.calls("POST", "/recurringruns")) == 1


def test_wait_shows_tasks_and_writes_the_result(
    server: KfpApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(server, wait=True, json_path=tmp_path / "result.json") == 0
    said = capsys.readouterr().out
    lines = [line.split()[:2] for line in said.splitlines() if line.startswith("  ")]
    tasks = ("ingest", "embed", "evaluate")
    assert lines == [[task, state] for task in tasks for state in ("running", "succeeded")]
    facts = json.loads((tmp_path / "result.json").read_text())
    assert (facts["state"], facts["elapsed_s"]) == ("SUCCEEDED", 180)
    assert [task["name"] for task in facts["tasks"]] == list(tasks)


def test_a_failed_run_names_the_task_and_ends_with_1(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    server.outcome = "FAILED"
    assert send(server, wait=True) == 1
    assert "evaluate failed: Step evaluate failed: out of memory" in capsys.readouterr().out
    query = ask(Query, host=server.host, run_id="run-1").model_dump_json(exclude_none=True)
    assert submit.main(["result", query]) == 1
    unknown = ask(Query, host=server.host, run_id="run-9").model_dump_json(exclude_none=True)
    assert submit.main(["result", unknown]) == 2


def test_a_wait_that_is_too_long_ends_with_1(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(server, wait=True, timeout_s=0.001) == 1
    assert "lorefuse result run-1 --wait" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, 2, ("does not know you", client.TOKEN_VARIABLE)),
        (302, 2, ("does not know you",)),
        (403, 2, ("You may not create the run", "--namespace")),
        (400, 2, ("refused to create the run",)),
    ],
)
def test_refusals_are_not_tried_again(
    server: KfpApi, capsys: pytest.CaptureFixture[str], status: int, code: int, words: tuple[str, ...]
) -> None:
    server.fail("POST", "/runs", status)
    assert send(server) == code
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [], said
    assert len(server.calls("POST", "/runs")) == 1
    assert TOKEN not in said


def test_a_busy_server_is_asked_again(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    server.fail("GET", "/healthz", 503)
    server.fail("GET", "/experiments", 500, times=2)
    server.fail("GET", "/runs/run-1", 502)
    assert send(server, wait=True) == 0
    server.fail("GET", "/experiments", 500, times=3)
    assert send(server) == 1
    assert "planned failure 500" in capsys.readouterr().err


@pytest.mark.parametrize("done", [False, True], ids=("not done", "done, answer lost"))
def test_a_lost_answer_creates_nothing_twice(server: KfpApi, done: bool) -> None:
    for path in ("/runs", "/pipelines/upload", "/pipelines/upload_version"):
        server.fail("POST", path, 500, done=done)
    assert send(server, upload=True) == 0
    assert [len(found) for found in (server.runs, server.pipelines)] == [1, 1]
    server.fail("POST", "/recurringruns", 500, done=done)
    assert send(server, cron="0 0 0 * * *") == 0
    assert len(server.recurring_runs) == 1


def test_no_server(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert send(server, host=host) == 1
    said = capsys.readouterr().err
    assert f"{host} does not answer" in said
    assert "port-forward" in said


def test_a_slow_server_is_given_up(
    server: KfpApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client._Client, "timeout_s", (0.2, 0.05))
    server.delay_s = 0.3
    assert send(server) == 1
    assert "ReadTimeoutError" in capsys.readouterr().err


def test_any_website_is_no_api(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    server.is_website = True
    assert send(server, create_experiment=True) == 2
    assert "is no Kubeflow Pipelines API" in capsys.readouterr().err
    assert server.calls("POST", "/.*") == []


def test_a_token_in_the_clear_is_said(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    for host, is_said in (("http://ml.example.invalid", True), ("https://ml.example.invalid", False)):
        assert send(server, host=host) == 1
        said = capsys.readouterr().err
        assert ("unencrypted" in said) == is_said
        assert TOKEN not in said


def test_many_users_need_a_namespace(server: KfpApi, capsys: pytest.CaptureFixture[str]) -> None:
    server.multi_user = True
    assert send(server) == 2
    assert "--namespace" in capsys.readouterr().err
    assert send(server, namespace="team-a", upload=True) == 0
    listed = server.calls("GET", "/experiments") + server.calls("GET", "/pipelines")
    assert {sent.query["namespace"] for sent in listed} == {"team-a"}


def test_token_from_a_file_is_read_anew(server: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(client.TOKEN_VARIABLE)
    token_path = tmp_path / "token"
    token_path.write_text("")
    assert send(server, token_path=token_path) == 2
    assert send(server, token_path=tmp_path / "none") == 2
    token_path.write_text(f"{TOKEN}\n")
    assert send(server, token_path=token_path) == 0
    cluster = client.Cluster(server.host, token_path=token_path)
    server.token = "canary-token-rotated"
    token_path.write_text(server.token)
    assert cluster.find_experiment("films") == "experiment-0"
    token_path.unlink()
    with pytest.raises(UsageError, match="--token-file"):
        cluster.find_experiment("films")


def test_command_line_end_to_end(server: KfpApi, tmp_path: Path) -> None:
    more = {"HOME": str(tmp_path), client.TOKEN_VARIABLE: TOKEN, "LOREFUSE_KFP_HOST": server.host}
    command = [sys.executable, "-c", "from lorefuse.cli.main import main; main()", "submit", "--config", str(PRESET)]
    command += ["--experiment", "films", "--param", "serve=false", "--wait", "--poll", "0.05"]
    command += ["--cluster", str(CPU)]
    done = subprocess.run(
        command, env=environment(tmp_path / "home", **more), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "state   SUCCEEDED" in done.stdout
    assert done.stderr == ""
    assert TOKEN not in done.stdout
