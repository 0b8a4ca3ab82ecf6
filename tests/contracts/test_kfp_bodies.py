"""The stand-in's own checks: a body that a real server could not read is refused, and a good one is not."""

from __future__ import annotations

import copy
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]

from tests.helpers.kfp_api import KfpApi
from tests.helpers.kfp_bodies import ContractError, check_arguments, check_filter, check_model, parse_documents
from tests.helpers.small_pipeline import small

RUN: dict[str, Any] = {
    "display_name": "films",
    "experiment_id": "e",
    "runtime_config": {"parameters": {"config": {"any": [1]}}, "pipeline_root": "s3://b"},
    "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
}
SCHEDULE: dict[str, Any] = {
    "display_name": "nightly",
    "max_concurrency": 1,
    "mode": "ENABLE",
    "no_catchup": True,
    "trigger": {"cron_schedule": {"cron": "0 0 3 * * *", "start_time": "2026-01-01T00:00:00+00:00"}},
}
BROKEN: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "unknown field": ("V2beta1Run", RUN, {"name": "films"}, "body.name: V2beta1Run has no such field"),
    "field of v1": ("V2beta1Run", RUN, {"resource_references": []}, "no such field"),
    "number as a name": ("V2beta1Run", RUN, {"display_name": 7}, "expected str"),
    "null": ("V2beta1Run", RUN, {"experiment_id": None}, "null"),
    "nested": ("V2beta1Run", RUN, {"runtime_config": {"params": {}}}, "body.runtime_config.params"),
    "mode": ("V2beta1RecurringRun", SCHEDULE, {"mode": "ON"}, "is none of"),
    "yes for true": ("V2beta1RecurringRun", SCHEDULE, {"no_catchup": "yes"}, "expected bool"),
    "no time": ("V2beta1RecurringRun", SCHEDULE, {"trigger": {"cron_schedule": {"end_time": "soon"}}}, "is no time"),
}


@pytest.mark.parametrize(("model", "body"), [("V2beta1Run", RUN), ("V2beta1RecurringRun", SCHEDULE)])
def test_good_bodies_pass(model: str, body: dict[str, Any]) -> None:
    check_model(body, model)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bodies_do_not(case: str) -> None:
    model, body, change, words = BROKEN[case]
    with pytest.raises(ContractError) as raised:
        check_model({**body, **change}, model)
    assert words in str(raised.value)


def test_filters() -> None:
    good = {"predicates": [{"operation": 1, "key": "display_name", "stringValue": "films"}]}
    assert check_filter(json.dumps(good))[0]["operation"] == "EQUALS"
    for change in ({"operation": "IS"}, {"stringvalue": "films"}, {"key": 3}):
        with pytest.raises(ContractError):
            check_filter(json.dumps({"predicates": [{**good["predicates"][0], **change}]}))


@pytest.fixture
def spec() -> dict[str, Any]:
    content: dict[str, Any] = json_format.MessageToDict(small.pipeline_spec)
    return content


def platform(**executor: Any) -> dict[str, Any]:
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-embed": executor}}}}}


def test_pipelines_are_parsed_strictly(spec: dict[str, Any]) -> None:
    pipeline, _ = parse_documents(spec, platform(activeDeadlineSeconds="60"))
    check_arguments(pipeline, {"config": {}, "serve": False})
    for broken in (platform(activeDeadline="60"), {"platforms": {"kubernetes": {"deployment": {}}}}):
        with pytest.raises(ContractError, match="pipeline"):
            parse_documents(spec, broken)
    stranger = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-none": {}}}}}}
    with pytest.raises(ContractError, match="exec-none"):
        parse_documents(spec, stranger)
    wrong = copy.deepcopy(spec)
    wrong["deploymentSpec"]["executors"]["exec-embed"]["container"]["images"] = "x"
    with pytest.raises(ContractError, match="images"):
        parse_documents(wrong, {})
    for parameters in ({}, {"config": {}, "strateg": "x"}):
        with pytest.raises(ContractError, match="parameters"):
            check_arguments(pipeline, parameters)


def test_the_server_refuses_and_remembers() -> None:
    with KfpApi() as api:
        body = json.dumps({**RUN, "experiment": "e"}).encode()
        request = urllib.request.Request(f"{api.host}/apis/v2beta1/runs", body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=10)
        assert raised.value.code == 400
        raised.value.close()
    assert api.problems == ["POST /apis/v2beta1/runs: body.experiment: V2beta1Run has no such field"]
    assert api.runs == {}
