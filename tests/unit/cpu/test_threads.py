"""torch's number of threads belongs to the process: nothing leaves another one behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lorefuse.cpu.threads import torch_threads
from lorefuse.training.pool import run_parallel


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Begin with two, whatever other tests have set."""
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("two_threads")
def test_the_number_is_given_back_also_after_an_error() -> None:
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with torch_threads(None):
        assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), torch_threads(1):
        _ = 1 / 0
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_trainings_side_by_side_have_one_each(num_workers: int) -> None:
    assert list(run_parallel(_num_threads, range(2), num_workers)) == [1, 1]
    assert torch.get_num_threads() == 2


def _num_threads(_: int) -> int:
    return torch.get_num_threads()
