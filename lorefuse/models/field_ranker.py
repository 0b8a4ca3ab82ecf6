"""The front that all families share: field embeddings, knowledge fusion, scaled numerics, interest scalars.

A family built on it says how fields and numbers interact, in one method; DeepFM alone overrides more, to score whole
catalogues faster. Suffixes: ``B`` rows, ``N`` catalogue, ``F`` fields, ``D`` id dim, ``P`` numerics, ``V`` interest
facets, ``X`` numbers of both sides and interest scalars side by side.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorefuse.core.schema import GRAPH, TEXT, Split
from lorefuse.core.schema import Tensor as TensorName
from lorefuse.models.fusion import make_fusion
from lorefuse.models.fusion.base import facets, small_linear
from lorefuse.models.injection import AlignmentLoss, distinct_items, initial_ids
from lorefuse.models.layers import FusedEmbedding, IdDropout, NumericScaler, unit_length, weighted_sum
from lorefuse.models.pairs import interest_scalars
from lorefuse.models.ranker import PAIR, Ranker, SideTensors
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec

Parts = tuple[Tensor, Tensor, Tensor | None]
"""First-order sum (B,), field vectors (B, F, D), scaled numerics (B, P) or None."""


FUSION_DIM = 32
"""Leading dimensions of a knowledge block in the fusion, where nothing else is said."""
ITEMS_PER_BLOCK = 8192
"""Items that users are scored with at once; a graph repeats itself for each such block of its catalogue."""


class Front(TypedDict, total=False):
    """Keywords of `FieldRanker` that every family hands on."""

    embedding_dim: int
    id_dropout: float
    fusion: str
    fusion_text_dim: int
    fusion_graph_dim: int
    fusion_dims: Mapping[str, int]
    init: str
    alignment_weight: float
    alignment_temperature: float


class FieldRanker(Ranker):
    """Fields of width D from ids, categories and knowledge, with numbers beside them.

    Args:
        spec: Names and widths of the inputs.
        embedding_dim: D.
        id_dropout: Share of user and item ids replaced by the unseen index in training.
        fusion: How knowledge meets the item's id, a name of `fusion.FUSIONS` or ``none``.
        fusion_text_dim: Leading text dimensions in the fusion; the interest scalars use all.
        fusion_graph_dim: The same of the graph.
        fusion_dims: The same of other knowledge blocks, by name; `FUSION_DIM` of those that are not named.
        init: ``random``, or ``text``: item ids start at an image of their knowledge vectors.
        alignment_weight: Weight of the contrastive loss between ids and knowledge; 0 leaves it out.
        alignment_temperature: Its temperature.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        embedding_dim: int = 16,
        id_dropout: float = 0.1,
        fusion: str = "residual",
        fusion_text_dim: int = 16,
        fusion_graph_dim: int = 32,
        fusion_dims: Mapping[str, int] | None = None,
        init: str = "random",
        alignment_weight: float = 0.0,
        alignment_temperature: float = 0.2,
    ) -> None:
        super().__init__(spec)
        self.embedding_dim, self.init = embedding_dim, init
        self.drop_ids = IdDropout(id_dropout)
        self.user_embedding = FusedEmbedding(spec.user_fields, (), embedding_dim)
        self.item_embedding = FusedEmbedding(spec.item_fields, spec.item_multi_fields, embedding_dim)
        self.user_scaler = NumericScaler(len(spec.user_numeric))
        self.item_scaler = NumericScaler(len(spec.item_numeric))
        leading = {TEXT: fusion_text_dim, GRAPH: fusion_graph_dim, **(fusion_dims or {})}
        dims = {block.tensor: min(block.dim, leading.get(block.name, FUSION_DIM)) for block in spec.knowledge}
        dims = {name: dim for name, dim in dims.items() if dim}
        self.fused_names = tuple(dims)
        self.fused_widths = tuple(spec.width(name) for name in dims)
        self.fusion = make_fusion(fusion, tuple(dims.values()), embedding_dim)
        self.alignment: AlignmentLoss | None = None
        if alignment_weight and dims and embedding_dim:
            self.alignment = AlignmentLoss(
                sum(self.fused_widths), embedding_dim, weight=alignment_weight, temperature=alignment_temperature
            )
        self.user_facets = tuple(n for n, facet in enumerate(spec.interest) if facet.as_field and embedding_dim)
        self.user_projections = nn.ModuleList(
            small_linear(spec.interest[n].dim, embedding_dim) for n in self.user_facets
        )
        self.num_user_fields = self.user_embedding.num_fields + len(self.user_facets)
        self.num_fused = self.fusion.num_fields if self.fusion is not None else 1
        self.num_item_fields = self.item_embedding.num_fields - 1 + self.num_fused
        self.num_facets = len(spec.interest)
        self.interest_scaler = NumericScaler(self.num_facets)
        self.num_dense = len(spec.user_numeric) + len(spec.item_numeric) + self.num_facets
        self.numeric_weight = nn.Parameter(torch.zeros(self.num_dense))
        self.bias = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return what a family adds to the linear part, (B,).

        Args:
            fields_BFD: All field vectors, the user's first; the item's fused fields are its first.
            dense_BX: User numerics, item numerics and interest scalars, standardised.
            user: The user's half, for what else a family put there.
            item: The item's half.
        """

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Return the two fused tables."""
        return [self.user_embedding.table, self.item_embedding.table]

    def encode_user(
        self,
        user_fields: Tensor,
        user_numeric: Tensor | None = None,
        user_interest: Tensor | None = None,
        user_history: Tensor | None = None,
    ) -> SideTensors:
        """Return linear (B,), fields (B, Fu, D), numeric (B, Pu) and interest (B, facets), where there are any."""
        parts = self._user_parts(user_fields, user_numeric, user_interest)
        side = self._side(parts, slice(0, len(self.spec.user_numeric)))
        if user_interest is not None:
            side["interest"] = user_interest
        return side

    def encode_item(
        self,
        item_fields: Tensor,
        item_multi: Tensor | None = None,
        item_numeric: Tensor | None = None,
        **knowledge: Tensor,
    ) -> SideTensors:
        """Return linear (B,), fields (B, Fi, D), numeric (B, Pi) and unit knowledge vectors, where there are any."""
        num_user = len(self.spec.user_numeric)
        parts = self._item_parts(item_fields, item_multi, item_numeric, knowledge)
        side = self._side(parts, slice(num_user, num_user + len(self.spec.item_numeric)))
        return side | unit_knowledge(knowledge)

    def cross(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score row by row: logits (B,)."""
        linear_B, fields_BFD, dense_BX = self.joined(user, item)
        return linear_B + self.interact(fields_BFD, dense_BX, user, item)

    def joined(self, user: SideTensors, item: SideTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return the linear part (B,), all field vectors (B, F, D) and all numbers (B, X) of both halves."""
        linear_B = user["linear"] + item["linear"] + self.bias
        dense = [side["numeric"] for side in (user, item) if "numeric" in side]
        if self.num_facets:
            interest_BV = self.interest(user, item)
            linear_B = linear_B + weighted_sum(interest_BV, self.numeric_weight[-self.num_facets :])
            dense.append(interest_BV)
        fields_BFD = torch.cat([user["fields"], item["fields"]], dim=1)
        dense_BX = torch.cat(dense, dim=1) if dense else fields_BFD.new_zeros(fields_BFD.shape[0], 0)
        return linear_B, fields_BFD, dense_BX

    def cross_all(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score every pair, as rows: logits (B, N), in blocks of items: memory does not grow with N."""
        num_items = item["linear"].shape[0]
        if not isinstance(num_items, int) or num_items <= ITEMS_PER_BLOCK:
            # A graph whose number of items is open cannot be cut: it is asked about the candidates of one list.
            return self._cross_block(user, item)
        starts = range(0, num_items, ITEMS_PER_BLOCK)
        blocks = [{k: v[start : start + ITEMS_PER_BLOCK] for k, v in item.items()} for start in starts]
        return torch.cat([self._cross_block(user, block) for block in blocks], dim=1)

    def paired(self, user: SideTensors, item: SideTensors) -> SideTensors:
        """Return what every pair has, as rows of a user's half (B · N, …), the items of a user next to each other."""
        if not self.num_facets:
            return {}
        pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
        scalars = [block @ item[facet.against].T for facet, block in pairs]
        return {PAIR: torch.stack(scalars, dim=2).flatten(0, 1)}

    @property
    def never_repeated(self) -> tuple[str, ...]:
        """Entries of halves that are too wide to be repeated for every pair, and that `paired` stands in for."""
        return ("interest", *self.spec.knowledge_tensors)

    def _cross_block(self, user: SideTensors, item: SideTensors) -> Tensor:
        # `len` would freeze the number of users in an exported graph; `shape` keeps it open.
        num_users, num_items = user["linear"].shape[0], item["linear"].shape[0]
        narrow = [{k: v for k, v in side.items() if k not in self.never_repeated} for side in (user, item)]
        users = {k: v.unsqueeze(1).expand(-1, num_items, *v.shape[1:]).flatten(0, 1) for k, v in narrow[0].items()}
        items = {k: v.unsqueeze(0).expand(num_users, *v.shape).flatten(0, 1) for k, v in narrow[1].items()}
        return self.cross(users | self.paired(user, item), items).view(-1, num_items)

    def _interest_rows(self, user: SideTensors, item: SideTensors, length: int) -> Tensor:
        """Return the interest scalars of lists, (B · C, V), not yet standardised; as in `cross_lists`."""
        if not self.num_facets:
            return item["linear"].new_zeros(item["linear"].shape[0], 0)
        pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
        lists = ((item[f.against].view(-1, length, block.shape[1]), block) for f, block in pairs)
        return torch.stack([torch.bmm(own, block.unsqueeze(2)).flatten() for own, block in lists], dim=1)

    def interest(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the standardised interest scalars, dot products of user and item vectors, (B, V)."""
        if PAIR in user:
            scalars_BV = user[PAIR][:, : self.num_facets]
        else:
            pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
            scalars_BV = torch.stack([(block * item[facet.against]).sum(1) for facet, block in pairs], dim=1)
        scaled_BV: Tensor = self.interest_scaler(scalars_BV)
        return scaled_BV

    def pair_numbers(self, training_set: TrainingSet, rows: NDArray[np.int64]) -> Tensor | None:
        """Return the interest scalars of rows, (B, V), not yet standardised."""
        return interest_scalars(training_set, rows) if self.num_facets else None

    @property
    def replaced_inputs(self) -> tuple[str, ...]:
        """The interest, unless a facet of it is a field of the user's side too."""
        return () if self.user_facets or not self.num_facets else (TensorName.USER_INTEREST.value,)

    def auxiliary_loss(self, inputs: dict[str, Tensor]) -> Tensor | None:
        """Return the weighted alignment loss of a batch, where there is one; inputs as for `forward`."""
        if self.alignment is None:
            return None
        index_B = inputs["item_fields"][:, 0]
        knowledge_BE = torch.cat([inputs[name] for name in self.fused_names], dim=1)
        at = distinct_items(index_B, knowledge_BE.abs().sum(1) > 0)
        id_nD = self.item_embedding.ids(index_B[at])
        loss: Tensor = self.alignment(id_nD, knowledge_BE[at])
        return loss

    def prepare(self, training_set: TrainingSet) -> None:
        """Fit all constants on train rows, and set initial item ids where they come from knowledge."""
        rows = training_set.rows_of(Split.TRAIN)
        if self.spec.user_numeric:
            self.user_scaler.fit(torch.from_numpy(training_set.user_numeric[training_set.state_row[rows]]))
        if self.spec.item_numeric:
            self.item_scaler.fit(torch.from_numpy(training_set.item_numeric[rows]))
        knowledge, times_N = knowledge_tables(training_set, self.fused_names)
        if self.fusion is not None:
            self.fusion.fit(knowledge, times_N)
        if self.alignment is not None:
            self.alignment.fit(torch.cat(knowledge, dim=1), times_N)
        if self.num_facets and len(rows):
            self.interest_scaler.fit(interest_scalars(training_set, rows))
        if self.init == "text" and self.fused_names and self.embedding_dim:
            index, vectors = initial_ids(training_set, self.fused_names, self.embedding_dim)
            with torch.no_grad():
                self.item_embedding.table[index, 1:] = vectors

    def diagnostics(self, inputs: dict[str, Tensor]) -> dict[str, float]:
        """Return the fusion's figures to watch, on some rows."""
        if self.fusion is None:
            return {}
        with torch.no_grad():
            fields_BF = inputs["item_fields"]
            _, vectors_BFD = self.item_embedding(fields_BF)
            knowledge = [inputs[name] for name in self.fused_names]
            return self.fusion.diagnostics(vectors_BFD[:, 0], knowledge, fields_BF[:, 0] > 0)

    def item_vectors(self, fields_BF: Tensor, knowledge: list[Tensor]) -> Tensor:
        """Return the fused fields of items from their encoded ids and knowledge, (B, K, D)."""
        return self._fuse(self.item_embedding.ids(fields_BF[:, 0]), knowledge, fields_BF[:, 0] > 0)

    def _fuse(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        if self.fusion is None:
            return id_BD.unsqueeze(1)
        fused_BKD: Tensor = self.fusion(id_BD, knowledge, known_B)
        return fused_BKD

    def _user_parts(self, fields_BF: Tensor, numeric: Tensor | None, interest: Tensor | None) -> Parts:
        first_B, vectors_BFD = self.user_embedding(self.drop_ids(fields_BF))
        if self.user_facets and interest is not None:
            blocks = self._interest_blocks({"interest": interest})
            texts_BFD = facets(self.user_projections, [blocks[n] for n in self.user_facets])
            vectors_BFD = torch.cat([vectors_BFD, texts_BFD], dim=1)
        return first_B, vectors_BFD, None if numeric is None else self.user_scaler(numeric)

    def _item_parts(
        self, fields: Tensor, multi: Tensor | None, numeric: Tensor | None, knowledge: Mapping[str, Tensor]
    ) -> Parts:
        fields_BF = self.drop_ids(fields)
        first_B, vectors_BFD = self.item_embedding(fields_BF, multi)
        if self.fusion is not None:
            fused = [knowledge[name] for name in self.fused_names]
            fused_BKD = self._fuse(vectors_BFD[:, 0], fused, fields_BF[:, 0] > 0)
            vectors_BFD = torch.cat([fused_BKD, vectors_BFD[:, 1:]], dim=1)
        return first_B, vectors_BFD, None if numeric is None else self.item_scaler(numeric)

    def _side(self, parts: Parts, numerics: slice) -> SideTensors:
        linear_B, vectors_BFD, numeric_BP = parts
        side = {"linear": linear_B, "fields": vectors_BFD}
        if numeric_BP is not None:
            own_B = weighted_sum(numeric_BP, self.numeric_weight[numerics])
            side |= {"linear": linear_B + own_B, "numeric": numeric_BP}
        return side

    def _interest_blocks(self, user: SideTensors) -> tuple[Tensor, ...]:
        return torch.split(user["interest"], [facet.dim for facet in self.spec.interest], dim=1)


def unit_knowledge(knowledge: Mapping[str, Tensor]) -> SideTensors:
    """Return knowledge vectors at unit length, by name of their tensor."""
    return {name: unit_length(vector) for name, vector in knowledge.items()}


def knowledge_tables(training_set: TrainingSet, names: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Return tables of the catalogue by name, (N, E_i) each, and how many train rows each item has, (N,)."""
    tables = [torch.from_numpy(training_set.item_table(name)) for name in names]
    items = training_set.item_row[training_set.rows_of(Split.TRAIN)]
    return tables, torch.from_numpy(np.bincount(items, minlength=len(training_set.item_fields)))
