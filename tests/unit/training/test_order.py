"""Which rows a training reads, in which order, and by which process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorefuse.config import TrainingConfig
from lorefuse.training import order as orders
from lorefuse.training.order import Drawn, Runs, order_of
from tests.helpers.training_rows import make_training_set

CPU = torch.device("cpu")
ROWS = np.arange(1000, 2003)


def _runs(rank: int = 0, size: int = 1, batch_size: int = 100) -> Runs:
    return Runs(ROWS, batch_size, torch.Generator().manual_seed(4), CPU, rank=rank, size=size)


def _rows(steps: list[Drawn]) -> list[list[int]]:
    """Rows of each step, without one that is computed for nothing."""
    return [(drawn.rows if drawn.share is None else drawn.rows[: drawn.share.num_own]).tolist() for drawn in steps]


def test_an_epoch_has_every_row_once_in_another_order_each_time() -> None:
    draw = _runs()
    epochs = [np.concatenate(_rows(list(draw()))) for _ in range(2)]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), ROWS)
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("size", [2, 3, 64])
def test_processes_make_the_batches_of_one_and_each_reads_its_own_rows(size: int) -> None:
    whole = list(_runs()())
    draws = [_runs(rank, size) for rank in range(size)]
    parts = [list(draw()) for draw in draws]
    for step, drawn in enumerate(whole):
        rows = [_rows(part)[step] for part in parts]
        assert [row for part in rows for row in part] == drawn.rows.tolist()
        firsts = [part[step].share.first for part in parts if part[step].share is not None]
        assert firsts == np.cumsum([0, *map(len, rows[:-1])]).tolist()
        assert {part[step].num_rows for part in parts} == {len(drawn.rows)}
    owned = [set(draw.own.tolist()) for draw in draws]
    assert sum(map(len, owned)) == len(set().union(*owned)) == len(ROWS)
    for own, part in zip(owned, parts, strict=True):
        assert set().union(*_rows(part)) == own
        assert max(own) - min(own) == len(own) - 1  # neighbours: pages of a mapped file that no other process reads


def test_a_batch_of_fewer_rows_than_runs_and_of_more_processes_than_runs() -> None:
    draws = [_runs(rank, 5, batch_size=3) for rank in range(5)]
    parts = [list(draw()) for draw in draws]
    assert [len(part) for part in parts] == [335] * 5
    assert sorted(row for part in parts for rows in _rows(part) for row in rows) == ROWS.tolist()


def test_many_rows_are_read_by_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    training_set, config = make_training_set(), TrainingConfig(batch_size=64)
    generator = torch.Generator().manual_seed(0)
    assert not isinstance(order_of(training_set, config, generator, CPU), Runs)
    monkeypatch.setattr(orders, "RUNS_ABOVE", 10)
    assert isinstance(order_of(training_set, config, generator, CPU), Runs)
