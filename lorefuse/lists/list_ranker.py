"""Train a ranker for the job it serves: to put in order what the first stage found.

A ranker of rated rows has only seen what people chose to rate. This one sees, at moments of the train part, what the
first stage would have shown. The first stage's score is added to its own, so it learns what that leaves open, and both
are added up again where a list is served.

Suffixes: ``L`` lessons, ``C`` items of a lesson.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.config import TrainingConfig
from lorefuse.core.progress import track
from lorefuse.core.schema import Tensor as Name
from lorefuse.cpu.threads import torch_threads
from lorefuse.features.history import with_history
from lorefuse.lists.lessons import Lessons
from lorefuse.models.ranker import Ranker
from lorefuse.training.ema import copied_weights
from lorefuse.training.optimizer import Optimizer
from lorefuse.training_set.arrays import TrainingSet

LESSONS_PER_STEP, MAX_EPOCHS = 42, 3
"""Two thousand rows a step, as rows are trained; nearly all of the gain is there after one pass over the lessons."""


def train_list_ranker(
    ranker: Ranker,
    training_set: TrainingSet,
    lessons: Lessons,
    config: TrainingConfig,
    judge: Callable[[Ranker], float],
) -> Ranker:
    """Return the ranker trained on lessons, with the weights of the pass that was judged best.

    The loss of a lesson is −Σ share · log softmax(blend + ranker) over its items. Items drawn evenly stand for as many
    as they were drawn from.

    Args:
        ranker: Untrained, of the family and width that are served; its constants are fitted here.
        training_set: The arm's rows.
        lessons: What is learned from.
        config: Step size, penalties, averaging, threads, seed.
        judge: What a ranker is worth on validation; higher is better. The first pass that is worse ends the training.

    Source: listwise softmax loss, Cao et al., ICML 2007 (ListNet, top-one), with likes as the target; the correction
    for drawing as in Jean et al., arXiv:1412.2007, section 3.
    """
    training_set = with_history(training_set, ranker.spec.history_length)
    ranker.prepare(training_set)
    inputs = _Inputs(ranker, training_set, lessons)
    optimizer = Optimizer(ranker, config)
    judged = optimizer.average.ranker
    generator = torch.Generator().manual_seed(config.seed)
    best, best_weights = -np.inf, ranker.state_dict()
    with torch_threads(config.num_threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # dropout
        for _ in range(MAX_EPOCHS):
            ranker.train()
            order = torch.randperm(len(lessons), generator=generator)
            for chosen in track(torch.split(order, LESSONS_PER_STEP), "Training on lists"):
                loss = list_loss(inputs.logits(chosen) + lessons.offset[chosen], lessons.share[chosen])
                optimizer.step(loss)
            optimizer.settle()
            value = judge(judged.eval())
            if value <= best:
                break
            best, best_weights = value, copied_weights(judged)
    ranker.load_state_dict(best_weights)
    optimizer.release()
    return ranker.eval()


def list_loss(scores: Tensor, share: Tensor) -> Tensor:
    """Return the mean over lessons of −Σ share · log softmax(scores).

    Args:
        scores: (L, C); -inf is no item.
        share: (L, C), each like's share.
    """
    log_share = torch.log_softmax(scores, dim=1).masked_fill(share == 0, 0.0)
    return -(share * log_share).sum(dim=1).mean()


class _Inputs:
    """A lesson's tensors: the user half is encoded once for all of its items."""

    def __init__(self, ranker: Ranker, training_set: TrainingSet, lessons: Lessons) -> None:
        self.ranker, self.lessons = ranker, lessons

        def tensor(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array))

        # Of the states those of lessons alone: all of them may be made when asked for, or lie in a file.
        states, self.state = np.unique(lessons.states.numpy(), return_inverse=True)
        users = {name: getattr(training_set, name) for name in ranker.user_inputs}
        self.users = {n: tensor(t if n == Name.USER_FIELDS else t[states]) for n, t in users.items()}
        tables = training_set.item_tables()
        self.items = {n: tensor(tables[n]) for n in ranker.item_inputs if n != Name.ITEM_NUMERIC}

    def logits(self, chosen: Tensor) -> Tensor:
        """Return the ranker's logits of some lessons, (L, C)."""
        lessons = self.lessons
        rows, users = lessons.rows[chosen], lessons.users[chosen]
        states = torch.from_numpy(self.state)[chosen]
        of_user = {
            name: table.index_select(0, users if name == Name.USER_FIELDS else states)
            for name, table in self.users.items()
        }
        if Name.USER_HISTORY.value in of_user:
            of_user[Name.USER_HISTORY.value] = of_user[Name.USER_HISTORY.value].long()
        user = self.ranker.encode_user(**of_user)
        flat = rows.flatten()
        given = {name: table.index_select(0, flat) for name, table in self.items.items()}
        if Name.ITEM_NUMERIC in self.ranker.item_inputs:
            numeric = lessons.item_numeric[lessons.fold[chosen].unsqueeze(1), rows]
            given[Name.ITEM_NUMERIC.value] = numeric.flatten(0, 1)
        item = self.ranker.encode_item(**given)
        return self.ranker.cross_lists(user, item, rows.shape[1])
