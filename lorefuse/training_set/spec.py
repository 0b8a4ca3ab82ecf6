"""One description of the model's inputs: makes tensors' widths, config.pbtxt, the client's dtypes and the checks."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Tensor

SPEC_FILE = "feature_spec.json"


class CategoricalField(BaseModel):
    """A field with one category per row.

    Attributes:
        name: Column it comes from.
        size: Size of its vocabulary, the unseen index 0 included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    size: int = Field(ge=1)


class MultiField(CategoricalField):
    """A field with several categories per row, padded with 0 to `width` columns of `Tensor.ITEM_MULTI`."""

    width: int = Field(ge=1)


class InterestFacet(BaseModel):
    """One block of `Tensor.USER_INTEREST`: the user's side of a dot product with an item vector.

    Attributes:
        name: e.g. ``liked_text``.
        against: Item tensor it meets, `Tensor.ITEM_TEXT` or `Tensor.ITEM_GRAPH` (unit length inside the model).
        dim: Width of the block; the same as the item tensor's.
        as_field: The block is also a field of the user's side: a linear image of it meets all other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    against: Tensor
    dim: int = Field(ge=1)
    as_field: bool = False


class FeatureSpec(BaseModel):
    """Names and widths of everything a ranker reads, in tensor order. The first field of each side is the id.

    Attributes:
        user_fields: Columns of `Tensor.USER_FIELDS`.
        item_fields: Columns of `Tensor.ITEM_FIELDS`.
        item_multi_fields: Blocks of `Tensor.ITEM_MULTI`, side by side.
        user_numeric: Columns of `Tensor.USER_NUMERIC`.
        item_numeric: Columns of `Tensor.ITEM_NUMERIC`.
        interest: Blocks of `Tensor.USER_INTEREST`, side by side.
        history_length: Width L of `Tensor.USER_HISTORY`; 0 where the model reads no history.
        text_dim: Width of `Tensor.ITEM_TEXT`; 0 where there is no text.
        text_blocks: Widths of the text facets that stand side by side in it; () where it is one block.
        graph_dim: Width of `Tensor.ITEM_GRAPH`; 0 where there is no graph.
        label_kind: ``binary`` (score is a probability) or ``regression`` (score is a value).
        data_cutoff: Latest training timestamp anything here was fitted on, ISO 8601 in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    user_fields: tuple[CategoricalField, ...]
    item_fields: tuple[CategoricalField, ...]
    item_multi_fields: tuple[MultiField, ...] = ()
    user_numeric: tuple[str, ...] = ()
    item_numeric: tuple[str, ...] = ()
    interest: tuple[InterestFacet, ...] = ()
    history_length: int = Field(0, ge=0)
    text_dim: int = Field(0, ge=0)
    text_blocks: tuple[int, ...] = ()
    graph_dim: int = Field(0, ge=0)
    label_kind: str = "binary"
    data_cutoff: str = ""

    def width(self, tensor: Tensor) -> int:
        """Return the second dimension of an input tensor; 0 means the tensor is not an input of the model."""
        widths = {
            Tensor.USER_FIELDS: len(self.user_fields),
            Tensor.USER_NUMERIC: len(self.user_numeric),
            Tensor.USER_INTEREST: sum(facet.dim for facet in self.interest),
            Tensor.USER_HISTORY: self.history_length,
            Tensor.ITEM_FIELDS: len(self.item_fields),
            Tensor.ITEM_MULTI: sum(field.width for field in self.item_multi_fields),
            Tensor.ITEM_NUMERIC: len(self.item_numeric),
            Tensor.ITEM_TEXT: self.text_dim,
            Tensor.ITEM_GRAPH: self.graph_dim,
        }
        return widths[tensor]

    def save(self, folder_path: Path) -> None:
        """Write `feature_spec.json` into a folder."""
        write_json(folder_path / SPEC_FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder_path: Path) -> FeatureSpec:
        """Read `feature_spec.json` from a folder.

        Raises:
            ArtifactError: The file is missing or is not a feature spec.
        """
        path = folder_path / SPEC_FILE
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path} is not a feature spec.", got=str(error), fix="build the training set again: lorefuse run"
            ) from None
