"""A stand-in for the Kubeflow Pipelines API server, on 127.0.0.1: no cluster can be had where the tests run.

It knows the calls that `kfp.Client` makes for `lorefuse submit`, and no more. What it is sent is held to the models of
`kfp_server_api` and to PipelineSpec and PlatformSpec; what it answers is made from the same models. It runs nothing: a
run goes through a script of states, one step a look. Passing against it means that the contract is kept, not that a
cluster ran the pipeline.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any

import kfp_server_api as api

from tests.helpers.kfp_bodies import (
    ContractError,
    check_arguments,
    check_filter,
    check_model,
    parse_package,
    parse_pipeline,
)
from tests.helpers.kfp_http import Answer, Handler, Sent

PREFIX = "/apis/v2beta1"
START = datetime(2026, 1, 1, tzinfo=UTC)
LIST_QUERY = {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}
TASKS = ("ingest", "embed", "evaluate")


@dataclass
class KfpApi:
    """The server. Use it as a context manager; `host` is its address.

    Attributes:
        token: Bearer token it wants; empty wants none.
        multi_user: What healthz says.
        outcome: Final state of every run.
        failures: (method, path pattern, status, whether it was done nevertheless) → how many answers fail.
        delay_s: Pause before each answer.
        is_website: Answer everything with a page of HTML.
    """

    token: str = ""
    multi_user: bool = False
    outcome: str = "SUCCEEDED"
    failures: list[tuple[str, str, int, bool]] = field(default_factory=list)
    delay_s: float = 0.0
    is_website: bool = False
    sent: list[Sent] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    experiments: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring_runs: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, Any] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> KfpApi:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self.answer))
        self.host = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def calls(self, method: str, path: str) -> list[Sent]:
        """Return the requests of that method whose path below /apis/v2beta1 matches the pattern."""
        return [sent for sent in self.sent if sent.method == method and re.fullmatch(PREFIX + path, sent.path)]

    def fail(self, method: str, path: str, status: int, *, times: int = 1, done: bool = False) -> None:
        """Let the next `times` matching requests fail with `status`; `done` does what was asked for, and loses it."""
        self.failures += [(method, path, status, done)] * times

    def answer(self, sent: Sent) -> Answer:
        """Return status and content for a request."""
        self.sent.append(sent)
        time.sleep(self.delay_s)
        if self.is_website:
            return 200, "<html>Welcome</html>"
        if self.token and sent.headers.get("authorization") != f"Bearer {self.token}":
            return 401, _error(16, "Request header error: there is no valid token")
        try:
            failure = self._planned(sent)
            if failure is None:
                return self._route(sent)
            if failure[3]:
                self._route(sent)
            return failure[2], _error(13, f"planned failure {failure[2]}")
        except ContractError as error:
            self.problems.append(f"{sent.method} {sent.path}: {error}")
            return 400, _error(3, str(error))

    def _planned(self, sent: Sent) -> tuple[str, str, int, bool] | None:
        for failure in self.failures:
            if failure[0] == sent.method and re.fullmatch(PREFIX + failure[1], sent.path):
                self.failures.remove(failure)
                return failure
        return None

    def _route(self, sent: Sent) -> Answer:
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", "/healthz", lambda _: (200, api.V2beta1GetHealthzResponse(multi_user=self.multi_user))),
            ("GET", "/experiments", self._list("experiments", self.experiments, api.V2beta1ListExperimentsResponse)),
            ("POST", "/experiments", self._create_experiment),
            ("GET", "/pipelines", self._list("pipelines", self.pipelines, api.V2beta1ListPipelinesResponse)),
            ("POST", "/pipelines/upload", self._upload),
            ("POST", "/pipelines/upload_version", self._upload_version),
            ("GET", "/pipelines/([^/]+)/versions", self._list_versions),
            ("GET", "/runs", self._list("runs", self.runs, api.V2beta1ListRunsResponse)),
            ("POST", "/runs", self._create_run),
            ("GET", "/runs/([^/]+)", self._get_run),
            (
                "GET",
                "/recurringruns",
                self._list("recurring_runs", self.recurring_runs, api.V2beta1ListRecurringRunsResponse),
            ),
            ("POST", "/recurringruns", self._create_recurring_run),
        ]
        for method, path, handle in routes:
            found = re.fullmatch(PREFIX + path, sent.path)
            if found and method == sent.method:
                return handle(sent, *found.groups())
        return 404, _error(5, f"no such call: {sent.method} {sent.path}")

    def _list(self, key: str, store: dict[str, Any], kind: Any) -> Callable[[Sent], Answer]:
        def answer(sent: Sent) -> Answer:
            _known(sent, LIST_QUERY)
            return 200, kind(**{key: _filtered(sent, list(store.values())) or None})

        return answer

    def _list_versions(self, sent: Sent, pipeline_id: str) -> Answer:
        _known(sent, LIST_QUERY - {"namespace", "experiment_id"})
        found = [entry for entry in self.versions.values() if entry.pipeline_id == pipeline_id]
        return 200, api.V2beta1ListPipelineVersionsResponse(pipeline_versions=_filtered(sent, found) or None)

    def _create_experiment(self, sent: Sent) -> Answer:
        check_model(sent.body, "V2beta1Experiment")
        if any(entry.display_name == sent.body["display_name"] for entry in self.experiments.values()):
            return 409, _error(6, "Already exist error")
        name, number = sent.body["display_name"], f"experiment-{len(self.experiments) + 1}"
        self.experiments[number] = api.V2beta1Experiment(experiment_id=number, display_name=name)
        return 200, self.experiments[number]

    def _upload(self, sent: Sent) -> Answer:
        _known(sent, {"name", "display_name", "description", "namespace", "tags"})
        specs = parse_package(sent.body)
        if any(entry.display_name == sent.query["name"] for entry in self.pipelines.values()):
            return 409, {"error_message": "Failed to create a pipeline and a pipeline version"}
        number, name = f"pipeline-{len(self.pipelines) + 1}", sent.query["name"]
        self.pipelines[number] = api.V2beta1Pipeline(pipeline_id=number, display_name=name, name=name)
        self._add_version(number, name, specs)
        return 200, self.pipelines[number]

    def _upload_version(self, sent: Sent) -> Answer:
        _known(sent, {"name", "display_name", "pipelineid", "description", "tags"})
        specs, pipeline_id, name = parse_package(sent.body), sent.query["pipelineid"], sent.query["name"]
        if pipeline_id not in self.pipelines:
            return 400, {"error_message": "Failed to create a pipeline version"}
        if any((v.pipeline_id, v.display_name) == (pipeline_id, name) for v in self.versions.values()):
            return 409, {"error_message": "Failed to create a pipeline version"}
        return 200, self._add_version(pipeline_id, name, specs)

    def _add_version(self, pipeline_id: str, name: str, specs: Any) -> Any:
        number = f"version-{len(self.versions) + 1}"
        self.packages[number] = specs
        self.versions[number] = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id, pipeline_version_id=number, display_name=name, name=name
        )
        return self.versions[number]

    def _specs(self, body: dict[str, Any]) -> Any:
        """Return what is to be run: exactly one of a spec and a reference to a version that exists."""
        if ("pipeline_spec" in body) == ("pipeline_version_reference" in body):
            raise ContractError("body: either pipeline_spec or pipeline_version_reference")
        if "pipeline_spec" in body:
            return parse_pipeline(body["pipeline_spec"])
        reference = body["pipeline_version_reference"]
        version = self.versions.get(reference["pipeline_version_id"])
        if version is None or version.pipeline_id != reference["pipeline_id"]:
            raise ContractError(f"pipeline_version_reference: there is no {reference}")
        return self.packages[reference["pipeline_version_id"]]

    def _checked(self, sent: Sent, model: str) -> Any:
        check_model(sent.body, model)
        if sent.body.get("experiment_id") not in self.experiments:
            raise ContractError(f"experiment_id: there is no {sent.body.get('experiment_id')}")
        specs = self._specs(sent.body)
        check_arguments(specs[0], sent.body.get("runtime_config", {}).get("parameters", {}))
        return specs

    def _create_run(self, sent: Sent) -> Answer:
        self._checked(sent, "V2beta1Run")
        number = f"run-{len(self.runs) + 1}"
        self.runs[number] = api.V2beta1Run(
            run_id=number, experiment_id=sent.body["experiment_id"], display_name=sent.body["display_name"],
            created_at=START, state="PENDING",
        )  # fmt: skip
        return 200, self.runs[number]

    def _create_recurring_run(self, sent: Sent) -> Answer:
        self._checked(sent, "V2beta1RecurringRun")
        if len(sent.body["trigger"].get("cron_schedule", {}).get("cron", "").split()) != 6:
            raise ContractError("trigger.cron_schedule.cron: six fields")
        number = f"recurring-{len(self.recurring_runs) + 1}"
        self.recurring_runs[number] = api.V2beta1RecurringRun(
            recurring_run_id=number, experiment_id=sent.body["experiment_id"], display_name=sent.body["display_name"],
            mode=sent.body["mode"],
        )  # fmt: skip
        return 200, self.recurring_runs[number]

    def _get_run(self, sent: Sent, run_id: str) -> Answer:
        if run_id not in self.runs:
            return 404, _error(5, f"Run {run_id} not found")
        self.looks[run_id] = self.looks.get(run_id, 0) + 1
        return 200, _played(self.runs[run_id], self.looks[run_id], self.outcome)


def _played(run: Any, look: int, outcome: str) -> Any:
    """Return a run as it stands at the n-th look: one task more at each, the last one with the outcome."""
    is_over = look > len(TASKS)
    details = []
    for index, name in enumerate(TASKS[:look]):
        start, is_last = START + timedelta(minutes=index), index == len(TASKS) - 1
        ended = is_over or index < look - 1
        failed = is_last and is_over and outcome == "FAILED"
        details.append(
            api.V2beta1PipelineTaskDetail(
                run_id=run.run_id,
                task_id=f"{run.run_id}-{name}",
                display_name=name,
                start_time=start,
                end_time=start + timedelta(seconds=50) if ended else None,
                state=(outcome if is_last else "SUCCEEDED") if ended else "RUNNING",
                error=api.GoogleRpcStatus(code=2, message="Step evaluate failed: out of memory") if failed else None,
            )
        )
        details.append(api.V2beta1PipelineTaskDetail(display_name=f"{name}-driver", state="SUCCEEDED"))
    return api.V2beta1Run(
        run_id=run.run_id, display_name=run.display_name, experiment_id=run.experiment_id, created_at=START,
        state=outcome if is_over else "RUNNING", finished_at=START + timedelta(minutes=3) if is_over else None,
        run_details=api.V2beta1RunDetails(task_details=details),
    )  # fmt: skip


def _known(sent: Sent, names: set[str]) -> None:
    if set(sent.query) - names:
        raise ContractError(f"query: unknown {sorted(set(sent.query) - names)}")


def _filtered(sent: Sent, entries: list[Any]) -> list[Any]:
    for predicate in check_filter(sent.query.get("filter") or "{}"):
        if predicate["operation"] != "EQUALS":
            raise ContractError(f"filter: {predicate['operation']} is not played here")
        entries = [entry for entry in entries if getattr(entry, predicate["key"]) == predicate["string_value"]]
    wanted = sent.query.get("experiment_id")
    return [entry for entry in entries if not wanted or entry.experiment_id == wanted]


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": message, "code": code, "message": message, "details": []}
