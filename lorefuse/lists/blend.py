"""The blend's weights, learned from the likes of validation rows against the whole catalogue.

Suffixes: ``U`` users, ``C`` items looked at for a user, ``J`` score vectors, ``N`` items of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.core.progress import track
from lorefuse.cpu.threads import torch_threads
from lorefuse.lists.moments import Moments
from lorefuse.lists.two_stage import Candidates, Views, short_past

NUM_HARD, NUM_DRAWN = 300, 300
"""Items that a user's like is told apart from: those some view puts on top, and others drawn evenly."""
MAX_LIKES = 5.0
"""Users with more likes than this count no more."""
MAX_STEPS = 200


@dataclass(frozen=True)
class Examples:
    """What the weights are learned from.

    Attributes:
        rows: int64 (U, C) the items.
        views: float32 (U, C, 2 J).
        popularity: float32 (U, C).
        is_new: float32 (U, C).
        short: float32 (U, 1), see `two_stage.short_past`.
        share: float32 (U, C), each like's share of its user's likes.
        weight: float32 (U,) of each user.
        offset: float32 (U, C): what makes up for drawing; -inf where an item may not be shown.
    """

    rows: Tensor
    views: Tensor
    popularity: Tensor
    is_new: Tensor
    short: Tensor
    share: Tensor
    weight: Tensor
    offset: Tensor


def collect(
    candidates: Candidates, moments: Moments, seed: int, num_hard: int = NUM_HARD, num_drawn: int = NUM_DRAWN
) -> Examples:
    """Look at the likes of some users, at what each view would show in their place, and at items drawn evenly.

    Args:
        candidates: Of which the views are read, not the weights.
        moments: Users with likes to find.
        seed: Of the draws.
        num_hard: Likes and items that some view puts on top.
        num_drawn: Items drawn evenly.
    """
    rng, num_items = np.random.default_rng(seed), candidates.num_items
    num_hard, num_drawn = min(num_hard, num_items), min(num_drawn, num_items)
    width = num_hard + num_drawn
    shape = (len(moments), width)
    views = np.zeros((*shape, 2 * candidates.num_scores), np.float32)
    columns, share = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    offset = np.zeros(shape, np.float32)
    offset[:, num_hard:] = np.log(max(num_items - num_hard, 1) / num_drawn)
    short, num_likes = np.zeros((len(moments), 1), np.float32), np.zeros(len(moments), np.float32)
    wanted = moments.all
    for number in track(range(len(moments)), "Looking at candidates"):
        likes = wanted.indices[wanted.indptr[number] : wanted.indptr[number + 1]]
        seen = candidates.look(moments.past(number), moments.user_vectors(number))
        hidden = np.zeros(num_items, bool)
        hidden[moments.hidden[number]] = True
        hard = _hard(seen, hidden, likes, num_hard, candidates)
        drawn = rng.integers(0, num_items, num_drawn)
        taken = hidden.copy()
        taken[hard] = True
        columns[number] = np.concatenate([hard, drawn])
        offset[number][np.concatenate([hidden[hard], taken[drawn]])] = -np.inf
        share[number, :num_hard] = np.isin(hard, likes) / max(len(likes), 1)
        views[number] = seen.at(columns[number]).T
        short[number], num_likes[number] = short_past(moments.past(number)), len(likes)
    return Examples(
        rows=torch.from_numpy(columns),
        views=torch.from_numpy(views),
        popularity=torch.from_numpy(candidates.popularity[columns]),
        is_new=torch.from_numpy(candidates.is_new[columns].astype(np.float32)),
        short=torch.from_numpy(short),
        share=torch.from_numpy(share),
        weight=torch.from_numpy(np.minimum(num_likes, MAX_LIKES)),
        offset=torch.from_numpy(offset),
    )


def _hard(
    views: Views,
    hidden: NDArray[np.bool_],
    likes: NDArray[np.integer],
    num_hard: int,
    candidates: Candidates,
) -> NDArray[np.int64]:
    """Return the likes and the items that some view puts highest."""
    if not candidates.num_scores:
        best = candidates.popularity.astype(np.float64)
    else:
        best = np.full(candidates.num_items, views.rest[: candidates.num_scores].max(), np.float64)
        best[slice(None) if views.rows is None else views.rows] = views.values[: candidates.num_scores].max(axis=0)
    best[hidden] = -np.inf
    best[likes] = np.inf
    return np.argpartition(-best, num_hard - 1)[:num_hard].astype(np.int64)


def fit_blend(examples: Examples, l2: float, num_threads: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights (2, 2 J) and biases (4,) that find the likes best: a softmax over the items looked at.

    Popularity counts for nobody less than nothing. Drawn items stand for as many as they were drawn from.

    Args:
        examples: From `collect`.
        l2: Penalty of all weights.
        num_threads: torch threads.

    Source: sampled softmax with its correction, Jean et al., ACL 2015, arXiv:1412.2007, section 3.
    """
    from scipy.optimize import minimize

    width = examples.views.shape[2]

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        found = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        score = scored(examples, found[:-4].view(2, width), found[-4:]) + examples.offset
        log_share = torch.log_softmax(score, dim=1).masked_fill(examples.share == 0, 0.0)
        of_user = -(examples.share * log_share).sum(dim=1)
        value = (of_user * examples.weight).sum() / examples.weight.sum() + l2 * found.square().sum()
        (gradient,) = torch.autograd.grad(value, found)
        return float(value.detach()), gradient.numpy().astype(np.float64)

    bounds = [(None, None)] * (2 * width) + [(0, None)] * 2 + [(None, None)] * 2
    with torch_threads(num_threads):  # scipy's own: importing one of torch's optimizers takes seconds
        start = np.zeros(len(bounds))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS}).x
    return found[:-4].reshape(2, width).astype(np.float32), found[-4:].astype(np.float32)


def scored(examples: Examples, weights: Tensor, biases: Tensor) -> Tensor:
    """Return the blend's scores of the items looked at, (U, C), with weights (2, 2 J) and biases (4,)."""
    both = examples.views @ weights.T
    score = both[..., 0] + (both[..., 1] - both[..., 0]) * examples.is_new
    popular = biases[0] + biases[1] * examples.short
    new = biases[2] + biases[3] * examples.short
    return score + popular * examples.popularity + new * examples.is_new
