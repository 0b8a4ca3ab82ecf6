"""Pooling never sees padding, on whichever side it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.embedding.pooling import pool

KINDS = ("mean", "cls", "last_token")


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    extra=st.integers(0, 4),
    kind=st.sampled_from(KINDS),
    left=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_padding_is_ignored(lengths: list[int], extra: int, kind: str, left: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = max(lengths) + extra
    hidden = rng.normal(0, 1e3, (len(lengths), width, 3)).astype(np.float32)  # padding holds large rubbish
    mask = np.zeros((len(lengths), width), dtype=np.int64)
    expected = []
    for row, length in enumerate(lengths):
        tokens = rng.normal(size=(length, 3)).astype(np.float32)
        span = slice(width - length, width) if left else slice(0, length)
        hidden[row, span], mask[row, span] = tokens, 1
        vector = {"mean": tokens.mean(0), "cls": tokens[0], "last_token": tokens[-1]}[kind]
        expected.append(vector / np.linalg.norm(vector))
    pooled = pool(torch.from_numpy(hidden), torch.from_numpy(mask), kind).numpy()
    np.testing.assert_allclose(pooled, np.array(expected), atol=2e-5)


def test_by_hand() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean")[0].tolist() == pytest.approx([0.6, 0.8])
    assert pool(hidden, mask, "cls")[0].tolist() == [1.0, 0.0]
    assert pool(hidden, mask, "last_token")[0].tolist() == [0.0, 1.0]


def test_half_precision_is_pooled_in_float32() -> None:
    pooled = pool(torch.ones(1, 300, 4, dtype=torch.bfloat16), torch.ones(1, 300, dtype=torch.int64), "mean")
    assert pooled.dtype == torch.float32
    assert pooled[0].tolist() == pytest.approx([0.5] * 4)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="last_token"):
        pool(torch.ones(1, 1, 1), torch.ones(1, 1), "max")
