"""How a version lies on disk: MLflow's ONNX flavour, the whole bundle and the evaluation beside it, nothing pickled.

::

    MLmodel  model.onnx  input_example.json  requirements.txt …   MLflow's own: load with mlflow.onnx or mlflow.pyfunc
    bundle/                                                       everything serving needs, checked by bundle.json
    evaluation/                                                   metrics with controls, the test scores for the gate
    store/                                                        the online features that the version was made with

`mlflow.models.Model.log` calls `save_model` of whatever module it is given as `flavor`; this is ours.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lorefuse.core.errors import ArtifactError
from lorefuse.export.bundle import RANKER_FILE, Bundle
from lorefuse.registry.signature import input_example, signature
from lorefuse.training.summary import ARM_RANKERS_FOLDER

BUNDLE_FOLDER = "bundle"
EVALUATION_FOLDER = "evaluation"
STORE_FOLDER = "store"
_REQUIREMENTS = ("mlflow", "onnx", "onnxruntime", "numpy")


def save_model(
    path: str, mlflow_model: Any, *, bundle_path: Path, evaluation_path: Path, store_file: Path | None = None
) -> None:
    """Write a model version's folder.

    Args:
        path: Folder to create.
        mlflow_model: The `mlflow.models.Model` that is being logged.
        bundle_path: A model bundle (`bundle.json`, `ranker.onnx`, …).
        evaluation_path: An evaluation folder (`metrics.json`, `user_scores.parquet`, …).
        store_file: Online features as one SQLite file, or the `store.json` that names their project on servers.

    Raises:
        ArtifactError: The bundle is not whole, or its ranker's inputs differ from its signature.
    """
    import mlflow.onnx

    bundle = Bundle.load(bundle_path)
    mlflow.onnx.save_model(
        _load_ranker(bundle),
        path,
        mlflow_model=mlflow_model,
        signature=signature(bundle),
        input_example=input_example(bundle),
        # Named here, or MLflow would load the model in a second process to find them out.
        pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
        save_as_external_data=False,
    )
    shutil.copytree(bundle_path, Path(path) / BUNDLE_FOLDER)
    shutil.copytree(
        evaluation_path, Path(path) / EVALUATION_FOLDER, ignore=shutil.ignore_patterns(".*", ARM_RANKERS_FOLDER)
    )
    if store_file is not None:
        (Path(path) / STORE_FOLDER).mkdir()
        shutil.copyfile(store_file, Path(path) / STORE_FOLDER / store_file.name)


def _load_ranker(bundle: Bundle) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    path = bundle.path / RANKER_FILE
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{path} is not an ONNX model.", got=str(error), fix="lorefuse run") from None
    expected, got = (
        {tensor.name for tensor in bundle.signatures().ranker.inputs},
        {entry.name for entry in model.graph.input},
    )
    if expected != got:
        raise ArtifactError(
            f"The inputs of {path} differ from its signature.",
            expected=", ".join(sorted(expected)),
            got=", ".join(sorted(got)),
            fix="export the model again: lorefuse run",
        )
    return model
