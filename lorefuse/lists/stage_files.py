"""Both stages in a folder.

::

    candidates.safetensors   views, popularity, is_new, weights, biases; see `two_stage.Candidates`
    candidates.json          names and order of the views, signals, sizes, factors; see `two_stage.TwoStage`
    list_ranker/             only where it orders the candidates: model.json and model.safetensors
    sasrec.safetensors       only with that view: a transformer over the order of likes
    lists.json               what the lists are worth, beside simple recommenders and with other knowledge
    list_values.parquet      each judged user's figures and list: what a later version is compared with

Nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.lists.two_stage import TwoStage

if TYPE_CHECKING:
    from torch import nn

CANDIDATES_FILE, CANDIDATES_ARRAYS_FILE = CANDIDATES_FILES = ("candidates.json", "candidates.safetensors")
SERVED, SIMPLE = "served", ("popularity", "item_knn", "ease")
WITHOUT_RANKER, WITH_RANKER = "without the ranker", "with the ranker"
"""Names of lists in `lists.json`; any other is the served list of an arm. The served list is also judged with the
other order of its candidates."""
LIST_RANKER_FOLDER = "list_ranker"
LISTS_FILE, LIST_VALUES_FILE = LIST_FILES = ("lists.json", "list_values.parquet")


def weights_file(encoder_name: str) -> str:
    """Return the name of the file with an encoder's weights."""
    return f"{encoder_name}.safetensors"


@dataclass(frozen=True)
class ReaderParts:
    """A view that reads a whole past at once, in parts.

    Attributes:
        facts: ``kind``, see `two_stage.READERS`, and what that kind reads.
        arrays: Likewise, by names without the view's own.
        module: Of an encoder: what makes a user's vector.
    """

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    module: nn.Module | None = None


@dataclass(frozen=True)
class Fitted:
    """Both stages as a version carries them.

    Attributes:
        arrays: See `two_stage.Candidates`.
        facts: See `two_stage.TwoStage`.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]

    def two_stage(self) -> TwoStage:
        """Return the stages, ready to answer."""
        return TwoStage(self.arrays, self.facts)


def save_stages(fitted: Fitted, folder_path: Path) -> None:
    """Write both stages into a folder."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.arrays.items()}
    arrays["is_new"] = arrays["is_new"].astype(np.int32)  # a type that the reader inside Triton knows
    save_file(arrays, str(folder_path / CANDIDATES_ARRAYS_FILE))
    write_json(folder_path / CANDIDATES_FILE, fitted.facts)


def load_stages(folder_path: Path) -> Fitted:
    """Read both stages.

    Raises:
        ArtifactError: A file is missing or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder_path / CANDIDATES_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        path = folder_path / CANDIDATES_ARRAYS_FILE
        return Fitted(load_file(str(path)), facts)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder_path} holds no complete candidate stage.",
            expected=f"a whole {path.name}",
            got=str(error),
            fix="run again: lorefuse run",
        ) from None
