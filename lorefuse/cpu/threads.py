"""Threads of torch, which are a setting of the whole process: whoever needs a number of them gives it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Compute on so many threads inside, and on as many as before afterwards.

    A sum split over another number of threads differs in its last bits, so what runs later must not depend on what ran
    before it.

    Args:
        number: Threads; None: those that are set.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
