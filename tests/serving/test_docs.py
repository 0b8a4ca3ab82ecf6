"""The examples of docs/serving.md, run against a real server whose users and genres are the test world's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.deploy.supervisor import Supervisor

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def blocks(language: str, starts: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return [block for block in found if block.startswith(starts)]


def here(block: str, served: Supervisor) -> str:
    """Put the test server's addresses, and a user it knows, into an example."""
    block = block.replace("127.0.0.1:8601", served.url).replace("127.0.0.1:8600", f"127.0.0.1:{served.ports.http}")
    return block.replace('"42"', '"u3"').replace('b"42"', 'b"u3"').replace("NDI=", "dTM=")


@pytest.mark.parametrize("starts", ["from lorefuse.client", "import numpy"])
def test_python_examples_run(served: Supervisor, starts: str) -> None:
    (block,) = blocks("python", starts)
    said = subprocess.run(
        [sys.executable, "-c", here(block, served)], capture_output=True, text=True, timeout=120, check=True
    )
    assert "1" in said.stdout


def test_curl_gets_what_the_client_gets(served: Supervisor) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    block = next(block for block in blocks("console", "curl") if "recommend" in block)
    said = subprocess.run(shlex.split(here(block, served)), capture_output=True, text=True, timeout=60, check=True)
    outputs = {output["name"]: output["data"] for output in json.loads(said.stdout)["outputs"]}
    with Client(served.url) as client:
        expected = client.recommend("u3", 5, filters=["genres=Drama", "genres!=War"])
    assert outputs["item_id"] == [item.item_id for item in expected.items]
    assert outputs["score"] == pytest.approx([item.score for item in expected.items])


def test_the_message_for_grpcurl_is_a_whole_request(served: Supervisor) -> None:
    import grpc
    from google.protobuf import json_format
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    (block,) = blocks("console", "grpcurl")
    words = shlex.split(here(block, served))
    request = json_format.Parse(words[words.index("-d") + 1], service_pb2.ModelInferRequest())
    service, method = words[-1].split("/")
    assert service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == service
    with grpc.insecure_channel(words[-2]) as channel:
        answer = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=20)
    assert answer.model_version == "1"
    assert len(answer.raw_output_contents) == len(answer.outputs)


def test_the_table_of_inputs_is_the_signature(served: Supervisor) -> None:
    import tritonclient.grpc as triton

    config = triton.InferenceServerClient(served.url).get_model_config("recommend").config
    rows = re.findall(r"^\| `(\w+)` \| (BYTES|INT32|BOOL|FP32) \|", PAGE, flags=re.MULTILINE)
    names = {"TYPE_STRING": "BYTES", "TYPE_INT32": "INT32", "TYPE_BOOL": "BOOL", "TYPE_FP32": "FP32"}
    served_inputs = [
        (
            tensor.name,
            names[tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name],
        )
        for tensor in config.input
    ]
    assert rows == served_inputs
    for output in config.output:
        assert f"`{output.name}`" in PAGE
