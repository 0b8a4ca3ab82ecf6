"""Texts of an answer as bytes: those of Triton's own function, and that function for what ours does not take."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import serialize_byte_tensor as tritons

from tests.helpers.module_file import served_module

byte_texts = served_module("answer", "byte_texts")


@given(rows=st.lists(st.binary(max_size=40), min_size=1, max_size=12), num_rows=st.integers(1, 3))
def test_bytes_are_tritons(rows: list[bytes], num_rows: int) -> None:
    array = np.empty((num_rows, len(rows)), dtype=np.object_)
    array[:] = rows
    assert byte_texts.serialize_byte_tensor(array) == tritons(array).item()


def test_an_empty_tensor_is_what_the_stub_wants() -> None:
    assert byte_texts.serialize_byte_tensor(np.empty((1, 0), dtype=np.object_)) == ()


@pytest.mark.parametrize("text", ["no bytes", None, 7, b"x" * 5000])
def test_the_stubs_own_function_takes_the_rest(text: object) -> None:
    stub = SimpleNamespace(serialize_byte_tensor=lambda array: ("own", array.shape))
    byte_texts.install(stub)
    quick = stub.serialize_byte_tensor
    array = np.array([[b"a", text]], dtype=np.object_)
    assert quick(array) == ("own", (1, 2))
    assert quick(np.array([[b"a", b""]], dtype=np.object_)) == b"\x01\0\0\0a\0\0\0\0"
