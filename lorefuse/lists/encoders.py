"""SASRec as a view: a graph makes a user's vector from the order of their likes; see `two_stage.Encoder`.

Suffixes: ``B`` users, ``L`` sequence length, ``N`` items of the catalogue, ``D`` embedding width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorefuse.config import PipelineConfig, RetrievalConfig
from lorefuse.config.retrieval import SASRecConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.lists.likes import likes_of, with_directions
from lorefuse.lists.moments import Moments
from lorefuse.lists.near import Vectors
from lorefuse.lists.stage_files import ReaderParts, weights_file
from lorefuse.lists.two_stage import ENCODER, PAST
from lorefuse.retrieval.sasrec import SASRec
from lorefuse.retrieval.sequence_encoder import SequenceEncoder, SequenceItems
from lorefuse.retrieval.tables import Knowledge
from lorefuse.training_set.arrays import TrainingSet

USER_VECTOR = "user_vector"
SASREC, HALF_LIFE = "sasrec", 2.0
"""Name of the view; the half-life weighs nothing for it: it says which like is the later one."""


class ServedSequence(nn.Module):
    """Rows of past items + 1, oldest first, 0 on the left, (B, L) → user vectors (B, D).

    Args:
        item_vectors: float32 (N, D), fixed.
        config: Layers, heads and length.
    """

    item_vectors: Tensor

    def __init__(self, item_vectors: Tensor, config: SASRecConfig) -> None:
        super().__init__()
        self.register_buffer("item_vectors", item_vectors)
        nothing = SequenceItems(
            torch.zeros(1, 1, dtype=torch.int64), Knowledge(torch.zeros(1, 0)), item_vectors.shape[1], 0.0
        )
        self.encoder = SequenceEncoder(
            nothing,
            history_length=config.history_length,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout=0.0,
        )

    def forward(self, past: Tensor) -> Tensor:
        """Return user vectors, (B, D)."""
        rows = (past - 1).clamp(min=0)
        vectors = self.item_vectors.index_select(0, rows.flatten()).view(-1, past.shape[1], self.item_vectors.shape[1])
        return self.encoder.states(past, vectors)[:, -1]


def sasrec_encoder(
    training_set: TrainingSet, text: Vectors | None, config: RetrievalConfig, threshold: float, seed: int
) -> ReaderParts:
    """Train SASRec on train likes, stopped by validation likes, and keep what serving needs of it.

    Args:
        training_set: The arm's rows and graph.
        text: What the arm knows of the items' texts, (N, E); None: nothing.
        config: Widths, layers, loss, epochs.
        threshold: Label from which a row is a like.
        seed: Of initialisation, shuffling and dropout.
    """
    likes = likes_of(training_set, text, threshold, HALF_LIFE)
    section = with_directions(config.sasrec, likes)
    return served_sasrec(SASRec(section, seed).fit(likes.train, likes.side, likes.ndcg))


def served_sasrec(recommender: SASRec) -> ReaderParts:
    """Return what serving needs of a trained SASRec."""
    section = recommender.config
    served = ServedSequence(torch.from_numpy(recommender.item_vectors().copy()), section)
    own = {name: value for name, value in recommender.encoder.state_dict().items() if not name.startswith("items.")}
    served.encoder.load_state_dict(own, strict=False)
    items = served.item_vectors.numpy()
    facts = {"kind": ENCODER, "length": section.history_length, "num_items": len(items)}
    return ReaderParts(facts, {"items": items}, served.eval())


def past_matrix(moments: Moments, length: int) -> NDArray[np.int64]:
    """Return the users' likes as rows + 1, oldest first and padded with 0 on the left, (U, L)."""
    result = np.zeros((len(moments), length), np.int64)
    for to, liked in zip(result, moments.liked, strict=True):
        rows = liked[:length][::-1]
        to[length - len(rows) :] = rows + 1
    return result


@torch.no_grad()
def encoded(parts: ReaderParts, moments: Moments) -> NDArray[np.float32]:
    """Return what an encoder makes of the users' likes, (U, D)."""
    assert parts.module is not None
    past = torch.from_numpy(past_matrix(moments, parts.facts["length"]))
    vectors = [parts.module(part) for part in torch.split(past, 512)]
    return np.asarray((torch.cat(vectors) if len(past) else torch.zeros(0, 1)).numpy(), np.float32)


def save_encoder(name: str, module: nn.Module, folder_path: Path) -> None:
    """Write `<name>.safetensors`."""
    from safetensors.torch import save_file

    own = {key: value.contiguous() for key, value in module.state_dict().items() if ".items." not in key}
    save_file(own, str(folder_path / weights_file(name)))


def load_encoder(name: str, folder_path: Path, config: PipelineConfig) -> tuple[nn.Module, dict[str, Tensor]]:
    """Read `<name>.safetensors`.

    Returns:
        The encoder, and an example of what it reads.

    Raises:
        ArtifactError: It is missing, cut short, or of another config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, section = folder_path / weights_file(name), config.retrieval.sasrec
    try:
        weights = load_file(str(path))
        served = ServedSequence(weights["item_vectors"], section)
        missing, unknown = served.load_state_dict(weights, strict=False)
        wrong = [*unknown, *(name for name in missing if ".items." not in name)]
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{path} does not fit its config.", got=str(error)[:300], fix="lorefuse run") from None
    if wrong:
        raise ArtifactError(f"{path} does not fit its config.", got=", ".join(wrong), fix="lorefuse run")
    return served.eval(), {PAST: torch.ones(2, section.history_length, dtype=torch.int64)}
