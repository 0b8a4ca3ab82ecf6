"""MLflow's signature and input example of a ranker, made from the bundle's own serving signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Tensor
from lorefuse.export.bundle import REFERENCE_FILE, Bundle

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

EXAMPLE_ROWS = 2


def signature(bundle: Bundle) -> ModelSignature:
    """Return the MLflow signature of a ranker: named tensors (-1, width) in, `score` float32 (-1,) out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    tensors = bundle.signatures().ranker.inputs
    inputs = [TensorSpec(tensor.numpy_dtype, (-1, *tensor.dims), tensor.name) for tensor in tensors]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), (-1,), Tensor.SCORE.value)]))


def input_example(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return the first reference rows of a bundle, as the ranker's named inputs.

    Raises:
        ArtifactError: The reference lacks an input, or its dtype or width differs from the signature.
    """
    from safetensors import SafetensorError

    try:
        arrays = bundle.arrays(REFERENCE_FILE)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{bundle.path / REFERENCE_FILE} cannot be read.", got=str(error)) from None
    example = {}
    for tensor in bundle.signatures().ranker.inputs:
        array = arrays.get(tensor.name)
        if array is None or array.dtype != tensor.numpy_dtype or array.shape[1:] != tensor.dims:
            raise ArtifactError(
                f"{tensor.name} of {REFERENCE_FILE} does not fit the ranker.",
                expected=f"{tensor.numpy_dtype} (rows, {tensor.dims[0]})",
                got="nothing" if array is None else f"{array.dtype} {array.shape}",
                fix="export the model again: lorefuse run",
            )
        example[tensor.name] = array[:EXAMPLE_ROWS]
    return example
