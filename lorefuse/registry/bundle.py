"""What the registry reads from a model bundle: its digests, signature and example."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.atomic import sha256_file, sha256_json
from lorefuse.contract import ITEM_TENSORS, USER_TENSORS, Tensor
from lorefuse.errors import ArtifactError
from lorefuse.features.spec import FeatureSpec

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BUNDLE_FILE = "bundle.json"
RANKER_FILE = "ranker.onnx"
EXAMPLE_ROWS = 2
_INTEGER_TENSORS = (Tensor.USER_FIELDS, Tensor.ITEM_FIELDS, Tensor.ITEM_MULTI)
_FIX = "export the model again: lorefuse run"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle folder. Open it with `Bundle.open`.

    Attributes:
        path: The folder.
        sha256: Digest of every file, by its path below the folder.
        data_cutoff: Latest training timestamp, ISO 8601 in UTC.
    """

    path: Path
    sha256: dict[str, str]
    data_cutoff: str

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle and check every file against the sha256 in its `bundle.json`.

        Raises:
            ArtifactError: `bundle.json` or a file is missing, truncated or changed.
        """
        path = Path(path)
        try:
            content = json.loads((path / BUNDLE_FILE).read_text("utf-8"))
            sha256 = {str(name): str(digest) for name, digest in content["sha256"].items()}
            data_cutoff = str(content["data_cutoff"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path} is not a model bundle.", expected=f"a readable {BUNDLE_FILE}", got=repr(error), fix=_FIX
            ) from None
        for name, digest in sha256.items():
            file = path / name
            if not file.is_file():
                raise ArtifactError(f"{path} is not whole.", expected=f"the file {name}", got="no such file", fix=_FIX)
            if (got := sha256_file(file)) != digest:
                raise ArtifactError(
                    f"{file} has changed or was cut short.", expected=f"sha256 {digest}", got=got, fix=_FIX
                )
        return cls(path, sha256, data_cutoff)

    @property
    def digest(self) -> str:
        """One sha256 over all files' digests: equal exactly when all files are."""
        return sha256_json(self.sha256)

    def spec(self) -> FeatureSpec:
        """Return names and widths of the ranker's inputs."""
        return FeatureSpec.load(self.path)

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file of the bundle; empty where the bundle has no such file."""
        if name not in self.sha256:
            return {}
        content = json.loads((self.path / name).read_text("utf-8"))
        return content if isinstance(content, dict) else {}


def input_dtypes(spec: FeatureSpec) -> dict[str, np.dtype[Any]]:
    """Return the ranker's input tensors in contract order with their dtypes; those of width 0 are left out."""
    tensors = [tensor for tensor in (*USER_TENSORS, *ITEM_TENSORS) if spec.width(tensor)]
    return {str(t): np.dtype(np.int64 if t in _INTEGER_TENSORS else np.float32) for t in tensors}


def signature(spec: FeatureSpec) -> ModelSignature:
    """Return the MLflow signature of a ranker: named tensors (-1, width) in, `score` float32 (-1,) out."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = [TensorSpec(dtype, (-1, spec.width(Tensor(name))), name) for name, dtype in input_dtypes(spec).items()]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), (-1,), str(Tensor.SCORE))]))


def input_example(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the first reference rows of a bundle, as the ranker's named inputs.

    Raises:
        ArtifactError: The reference lacks an input, or its dtype or width differs from the spec.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = bundle.path / "reference.safetensors"
    try:
        arrays = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read.", got=str(error), fix=_FIX) from None
    spec, example = bundle.spec(), {}
    for name, dtype in input_dtypes(spec).items():
        expected = f"{dtype} (rows, {spec.width(Tensor(name))})"
        array = arrays.get(name)
        if array is None or array.dtype != dtype or array.ndim != 2 or array.shape[1] != spec.width(Tensor(name)):
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise ArtifactError(f"{path}: {name} does not fit the spec.", expected=expected, got=got, fix=_FIX)
        example[name] = array[:EXAMPLE_ROWS]
    return example
