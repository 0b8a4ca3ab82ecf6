"""Runs ONNX files; importing it pulls in no torch, which a deployment does without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.core.errors import ArtifactError


def open_session(path: Path) -> Any:
    """Open an ONNX file with onnxruntime on one thread.

    Raises:
        ArtifactError: The file is missing, truncated or no ONNX model.
    """
    import onnxruntime

    state = onnxruntime.capi.onnxruntime_pybind11_state
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile, state.RuntimeException) as error:
        raise ArtifactError(f"{path} is not a valid ONNX model.", got=str(error)[:300], fix="export it again") from None
