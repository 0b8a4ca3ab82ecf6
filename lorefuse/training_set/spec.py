"""One description of the model's inputs: makes tensors' widths, config.pbtxt, the client's dtypes and the checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import (
    BLOCK_NAME,
    GRAPH,
    ITEM_TENSORS,
    RESERVED_BLOCKS,
    TEXT,
    USER_TENSORS,
    Tensor,
    block_column,
    item_block,
)

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


class KnowledgeBlock(BaseModel):
    """Vectors that say what the items are: one input of the models, one feature view, one table of the catalogue.

    Attributes:
        name: e.g. ``text``.
        dim: Width of the vectors; an item without one has zeros.
        address: Content address of what made the vectors, where a new item's vector must come from the same; or "".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=f"^{BLOCK_NAME}$")
    dim: int = Field(ge=1)
    address: str = ""

    @property
    def tensor(self) -> str:
        """Name of the model's input, of the feature view and of the stored table."""
        return item_block(self.name)

    @property
    def column(self) -> str:
        """Column of the feature view."""
        return block_column(self.name)

    @model_validator(mode="after")
    def _not_reserved(self) -> KnowledgeBlock:
        if self.name in RESERVED_BLOCKS:
            raise ValueError(f"{self.name} is the name of another part of an item")
        return self


class InterestFacet(BaseModel):
    """One block of `Tensor.USER_INTEREST`: the user's side of a dot product with an item vector.

    Attributes:
        name: e.g. ``liked_text``.
        against: Item tensor of the knowledge block it meets, e.g. ``item_text`` (unit length inside the model).
        dim: Width of the block; the same as the item tensor's.
        as_field: The block is also a field of the user's side: a linear image of it meets all other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    against: str
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
        knowledge: Vectors of the items, in order; each is an input of its own.
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
    knowledge: tuple[KnowledgeBlock, ...] = ()
    label_kind: str = "binary"
    data_cutoff: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_release(cls, content: Any) -> Any:
        """Read the two fixed blocks of releases before knowledge was a list."""
        if not isinstance(content, dict) or "text_dim" not in content:
            return content
        dims = {TEXT: content["text_dim"], GRAPH: content.get("graph_dim", 0)}
        kept = {name: value for name, value in content.items() if name not in ("text_dim", "text_blocks", "graph_dim")}
        return {**kept, "knowledge": [{"name": name, "dim": dim} for name, dim in dims.items() if dim]}

    @property
    def user_tensors(self) -> tuple[str, ...]:
        """Names of the user's inputs, in order."""
        return tuple(name.value for name in USER_TENSORS if self.width(name))

    @property
    def item_tensors(self) -> tuple[str, ...]:
        """Names of the item's inputs, in order, the knowledge blocks last."""
        return tuple(name.value for name in ITEM_TENSORS if self.width(name)) + self.knowledge_tensors

    @property
    def knowledge_tensors(self) -> tuple[str, ...]:
        """Names of the inputs that are knowledge blocks."""
        return tuple(block.tensor for block in self.knowledge)

    def knowledge_dim(self, name: str) -> int:
        """Return the width of a knowledge block; 0 where there is no such block."""
        return next((block.dim for block in self.knowledge if block.name == name), 0)

    def width(self, tensor: str) -> int:
        """Return the second dimension of an input tensor; 0 means the tensor is not an input of the model."""
        widths: dict[str, int] = {
            Tensor.USER_FIELDS: len(self.user_fields),
            Tensor.USER_NUMERIC: len(self.user_numeric),
            Tensor.USER_INTEREST: sum(facet.dim for facet in self.interest),
            Tensor.USER_HISTORY: self.history_length,
            Tensor.ITEM_FIELDS: len(self.item_fields),
            Tensor.ITEM_MULTI: sum(field.width for field in self.item_multi_fields),
            Tensor.ITEM_NUMERIC: len(self.item_numeric),
            **{block.tensor: block.dim for block in self.knowledge},
        }
        return widths.get(tensor, 0)

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
