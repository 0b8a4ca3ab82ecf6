"""SASRec as one of the blend's views: a user's vector from the order of their likes, and one vector for each item.

Suffixes: ``B`` users, ``L`` sequence length, ``N`` items of the catalogue, ``D`` embedding width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.contract import Split
from lorefuse.errors import ArtifactError
from lorefuse.features.training_set import TrainingSet
from lorefuse.lists.moments import Moments
from lorefuse.lists.stage_files import SEQUENCE_FILE
from lorefuse.retrieval.data import from_training_set
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.recommender import Side
from lorefuse.retrieval.sasrec import SASRec
from lorefuse.retrieval.sequence_encoder import ItemVectors, SequenceEncoder
from lorefuse.retrieval.tables import Knowledge

USER_VECTOR = "user_vector"
HALF_LIFE, MAX_VALIDATION_USERS, K = 2.0, 2000, 10
Vectors = NDArray[np.float32]


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
        nothing = ItemVectors(
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


def fit_sequence(
    training_set: TrainingSet, text: Vectors | None, config: SASRecConfig, threshold: float, seed: int
) -> ServedSequence:
    """Train SASRec on train likes, stopped by validation likes, and keep what serving needs of it.

    Args:
        training_set: The arm's rows and graph.
        text: What the arm knows of the items' texts, (N, E); None: nothing.
        config: Widths, layers, loss, epochs.
        threshold: Label from which a row is a like.
        seed: Of initialisation, shuffling and dropout.
    """
    data = from_training_set(training_set, threshold=threshold, judged=Split.VALIDATION, recency_half_life=HALF_LIFE)
    side: Side = replace(data.side, item_text=text)
    if text is not None:  # few items have few directions
        liked = np.unique(data.train.indices)
        num_directions = len(np.unique(text[liked], axis=0)) - 1
        config = config.model_copy(update={"text_dim": max(0, min(config.text_dim, num_directions))})
    recommender = SASRec(config, seed).fit(data.train, side, ndcg_of(data, K, MAX_VALIDATION_USERS))
    served = ServedSequence(torch.from_numpy(recommender.item_vectors().copy()), config)
    own = {name: value for name, value in recommender.encoder.state_dict().items() if not name.startswith("items.")}
    served.encoder.load_state_dict(own, strict=False)
    return served.eval()


def past_matrix(moments: Moments, length: int) -> NDArray[np.int64]:
    """Return the users' likes as rows + 1, oldest first and padded with 0 on the left, (U, L)."""
    result = np.zeros((len(moments), length), np.int64)
    for to, liked in zip(result, moments.liked, strict=True):
        rows = liked[:length][::-1]
        to[length - len(rows) :] = rows + 1
    return result


@torch.no_grad()
def with_sequence(moments: Moments, served: ServedSequence, length: int) -> Moments:
    """Return the users with their vectors."""
    past = torch.from_numpy(past_matrix(moments, length))
    vectors = torch.cat([served(part) for part in torch.split(past, 512)]) if len(past) else torch.zeros(0, 1)
    return replace(moments, vectors=(*moments.vectors, np.asarray(vectors.numpy(), np.float32)))


def save_sequence(served: ServedSequence, folder_path: Path) -> None:
    """Write `sequence.safetensors`."""
    from safetensors.torch import save_file

    own = {name: value.contiguous() for name, value in served.state_dict().items() if ".items." not in name}
    save_file(own, str(folder_path / SEQUENCE_FILE))


def load_sequence(folder_path: Path, config: SASRecConfig) -> ServedSequence:
    """Read `sequence.safetensors`.

    Raises:
        ArtifactError: It is missing, cut short, or of another config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder_path / SEQUENCE_FILE
    try:
        weights = load_file(str(path))
        served = ServedSequence(weights["item_vectors"], config)
        missing, unknown = served.load_state_dict(weights, strict=False)
        wrong = [*unknown, *(name for name in missing if ".items." not in name)]
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{path} does not fit its config.", got=str(error)[:300], fix="lorefuse run") from None
    if wrong:
        raise ArtifactError(f"{path} does not fit its config.", got=", ".join(wrong), fix="lorefuse run")
    return served.eval()
