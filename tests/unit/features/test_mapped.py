"""Mapped arrays are the arrays of the file; what a process writes into one stays with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lorefuse.training_set.mapped import mapped_arrays

ARRAYS = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "longs": np.array([2**62, -1]),
    "ints": np.array([[1], [2]], np.int32),
    "bytes": np.array([0, 255], np.uint8),
    "flags": np.array([True, False, True]),
    "nothing": np.zeros((4, 0), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(ARRAYS, str(tmp_path / "arrays.safetensors"))
    return tmp_path / "arrays.safetensors"


def test_arrays_are_those_of_the_file(path: Path) -> None:
    found = mapped_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in load_file(str(path)).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert type(found[name]) is np.ndarray


def test_what_is_written_stays_here(path: Path) -> None:
    before = path.read_bytes()
    mapped_arrays(path)["floats"][:] = 7
    assert path.read_bytes() == before
    np.testing.assert_array_equal(mapped_arrays(path)["floats"], ARRAYS["floats"])


def test_a_file_that_is_cut_short_is_none(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SafetensorError):
        mapped_arrays(path)
