"""Inputs and outputs of every served model, made from one `FeatureSpec`.

The same objects render config.pbtxt, tell the client its dtypes and serve the checks, so the three cannot drift.
Importing this module pulls in neither torch nor pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import ServingConfig
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import ITEM_ID, USER_ID, Tensor
from lorefuse.training_set.spec import FeatureSpec

RANKER, CATALOGUE_RANKER, RETRIEVE = "ranker", "catalogue_ranker", "retrieve"
FEATURES, ANSWER, DIRECT, RECOMMEND, EMBED = "features", "answer", "direct", "recommend", "embed"
STABLE, CANARY = f"{RECOMMEND}_stable", f"{RECOMMEND}_canary"
"""Fronts of two versions while one of them is on trial."""
PART_MODELS = (RANKER, CATALOGUE_RANKER, RETRIEVE, FEATURES, ANSWER, DIRECT)
"""Models that a version may have; it has one of the second and the third."""
ALL_MODELS = (*PART_MODELS, RECOMMEND, EMBED)
"""Models that may have a folder of a version's own."""
K, EXCLUDE_SEEN, TITLE = "k", "exclude_seen", "title"
TEXT, VECTOR = "text", "vector"
CANDIDATES, FILTERS, CONTEXT = "candidates", "filters", "context"
CONTEXT_VECTOR = "context_vector"
LIKED_ITEM_ID, LIKED_TITLE = "liked_item_id", "liked_title"
MODEL_VERSION, ALIAS = "model_version", "alias"
DATA_CUTOFF, EMBEDDING_ADDRESS = "data_cutoff", "embedding_address"
PROVENANCE = (MODEL_VERSION, ALIAS, DATA_CUTOFF, EMBEDDING_ADDRESS)
"""Outputs of every answer that say which model gave it and what that model knows."""

RANKER_BATCH_SIZE = 4096
"""Most rows a request to the ranker may hold."""
USER_BATCH_SIZE = 64
"""Most users a request to any other model may hold."""
_INTEGERS = (Tensor.USER_FIELDS, Tensor.USER_HISTORY, Tensor.ITEM_FIELDS, Tensor.ITEM_MULTI)
_TRITON_DTYPES = {"int64": "INT64", "int32": "INT32", "float32": "FP32", "bool": "BOOL", "bytes": "BYTES"}


@dataclass(frozen=True)
class TensorSignature:
    """One input or output.

    Attributes:
        name: e.g. ``user_fields``.
        dtype: ``int64``, ``int32``, ``float32``, ``bool`` or ``bytes`` (UTF-8 text).
        dims: Dimensions after the batch; -1 may vary.
        optional: A request may leave it out.
        flat: The graph's own tensor is (B,); Triton, which wants a dimension, shows it as (B, 1).
    """

    name: str
    dtype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False
    flat: bool = False

    @property
    def triton_dtype(self) -> str:
        """Name of the type on the wire, e.g. ``INT64``."""
        return _TRITON_DTYPES[self.dtype]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Type of the array; text travels as an object array."""
        return np.dtype(object if self.dtype == "bytes" else self.dtype)


@dataclass(frozen=True)
class ModelSignature:
    """All tensors of one served model.

    Attributes:
        name: Name of the model in Triton.
        inputs: In order.
        outputs: In order.
        max_batch_size: Most rows of a request.
    """

    name: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    max_batch_size: int

    def check_inputs(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise UsageError where names, dtypes, widths or the number of rows do not fit this model's inputs."""
        wanted = {tensor.name: tensor for tensor in self.inputs}
        missing = [t.name for t in self.inputs if not t.optional and t.name not in arrays]
        unknown = sorted(set(arrays) - set(wanted))
        if missing or unknown:
            raise UsageError(
                f"The inputs of {self.name} are not complete.",
                expected=", ".join(wanted),
                got=f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
            )
        rows = {len(array) for array in arrays.values()}
        if len(rows) != 1 or not 1 <= max(rows) <= self.max_batch_size:
            raise UsageError(
                f"The inputs of {self.name} do not line up.",
                expected=f"the same number of rows everywhere, 1 to {self.max_batch_size}",
                got=f"rows {sorted(rows)}",
            )
        for name, array in arrays.items():
            tensor = wanted[name]
            fits = array.ndim == 1 + len(tensor.dims) and all(
                want in (-1, got) for want, got in zip(tensor.dims, array.shape[1:], strict=True)
            )
            if array.dtype != tensor.numpy_dtype or not fits:
                raise UsageError(
                    f"{name} does not fit {self.name}.",
                    expected=f"{tensor.numpy_dtype} (rows, {', '.join(map(str, tensor.dims))})",
                    got=f"{array.dtype} {array.shape}",
                )


@dataclass(frozen=True)
class ServingSignature:
    """Signatures of the models that serve one version.

    Attributes:
        ranker: Rows of user and item tensors → score.
        catalogue_ranker: User tensors → best rows of the catalogue.
        retrieve: The same for a catalogue past one graph; a version has the one or the other.
        features: user_id → user tensors, from the online store.
        answer: Rows of the catalogue → ids and titles.
        direct: features → catalogue_ranker or retrieve → answer in one process, for machines without a GPU.
        recommend: The public API, an ensemble of the above.
        embed: The text of a new item → vector and score.
    """

    ranker: ModelSignature
    catalogue_ranker: ModelSignature
    retrieve: ModelSignature
    features: ModelSignature
    answer: ModelSignature
    direct: ModelSignature
    recommend: ModelSignature
    embed: ModelSignature

    @property
    def models(self) -> tuple[ModelSignature, ...]:
        """Those that may serve a version, the ensemble last; `embed` comes along only with an encoder."""
        ranking = (self.ranker, self.catalogue_ranker, self.retrieve)
        return (*ranking, self.features, self.answer, self.direct, self.recommend)

    @classmethod
    def of(cls, spec: FeatureSpec) -> ServingSignature:
        """Make the signatures of a model version from the names and widths of the ranker's inputs.

        Nothing here depends on the size of the catalogue or on bounds, and nothing of `direct` and `recommend` on the
        model: other versions stand beside the one that answers, so that a promotion is a switch and never a gap.
        """
        user, item = _inputs(spec, spec.user_tensors), _inputs(spec, spec.item_tensors)
        exclude = TensorSignature(Tensor.EXCLUDE_ROWS.value, "int64", (-1,))
        row = TensorSignature(Tensor.CATALOGUE_ROW.value, "int64", (-1,))
        score = TensorSignature(Tensor.SCORE.value, "float32", (-1,))
        k, liked = TensorSignature(K, "int32"), TensorSignature(LIKED_ITEM_ID, "bytes", (-1,))
        past = tuple(TensorSignature(name.value, "int64", (-1,)) for name in (Tensor.LIKED_ROWS, Tensor.SEEN_ROWS))
        request = (
            TensorSignature(USER_ID, "bytes"),
            TensorSignature(K, "int32", optional=True),
            TensorSignature(EXCLUDE_SEEN, "bool", optional=True),
            *(TensorSignature(name, "bytes", (-1,), optional=True) for name in (CANDIDATES, FILTERS, CONTEXT)),
            # Versions that do not read it refuse it themselves: what `recommend` takes must be the same for all.
            TensorSignature(CONTEXT_VECTOR, "float32", (-1,), optional=True),
        )
        answer = (
            TensorSignature(ITEM_ID, "bytes", (-1,)),
            TensorSignature(TITLE, "bytes", (-1,)),
            TensorSignature(Tensor.SCORE.value, "float32", (-1,)),
            TensorSignature(LIKED_TITLE, "bytes", (-1,)),
            *(TensorSignature(name, "bytes") for name in PROVENANCE),
        )
        new_item = (
            TensorSignature(TEXT, "bytes", (-1,)),
            TensorSignature(USER_ID, "bytes", optional=True),
            TensorSignature(CONTEXT, "bytes", (-1,), optional=True),
        )
        scored = (
            TensorSignature(VECTOR, "float32", (-1,)),
            TensorSignature(Tensor.SCORE.value, "float32"),
            *(TensorSignature(name, "bytes") for name in PROVENANCE),
        )
        flat_score = TensorSignature(Tensor.SCORE.value, "float32", flat=True)
        return cls(
            ranker=ModelSignature(RANKER, (*user, *item), (flat_score,), RANKER_BATCH_SIZE),
            catalogue_ranker=ModelSignature(CATALOGUE_RANKER, (*user, exclude), (row, score), USER_BATCH_SIZE),
            retrieve=ModelSignature(RETRIEVE, (*user, exclude, *past), (row, score), USER_BATCH_SIZE),
            features=ModelSignature(FEATURES, request, (*user, exclude, k, liked, *past), USER_BATCH_SIZE),
            answer=ModelSignature(ANSWER, (row, score, k, liked), answer, USER_BATCH_SIZE),
            direct=ModelSignature(DIRECT, request, answer, USER_BATCH_SIZE),
            recommend=ModelSignature(RECOMMEND, request, answer, USER_BATCH_SIZE),
            embed=ModelSignature(EMBED, new_item, scored, USER_BATCH_SIZE),
        )


def num_excluded(num_items: int, serving: ServingConfig) -> int:
    """Return the width S of `Tensor.EXCLUDE_ROWS` where seen items alone are left out.

    Plain requests have this one width, so that Triton can batch them; a filter or a list of candidates may leave out
    all items but one, and such requests are as wide as the catalogue.
    """
    return min(serving.max_exclude, num_items)


def _inputs(spec: FeatureSpec, names: tuple[str, ...]) -> tuple[TensorSignature, ...]:
    return tuple(
        TensorSignature(name, "int64" if name in _INTEGERS else "float32", (spec.width(name),)) for name in names
    )
