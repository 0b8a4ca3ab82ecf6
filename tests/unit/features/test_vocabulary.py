from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.core.errors import ArtifactError
from lorefuse.features.vocabulary import (
    VOCABULARIES_FILE,
    Vocabulary,
    encode_lists,
    load_vocabularies,
    save_vocabularies,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(TEXT))
def test_known_values_come_back(values: list[str]) -> None:
    vocabulary = Vocabulary.fit(values)
    indices = vocabulary.encode(pd.Series(values, dtype=object))
    assert indices.dtype == np.int64
    assert vocabulary.decode(indices) == values
    assert ((indices == 0) == np.array([value == "" for value in values], dtype=bool)).all()
    assert vocabulary.size == len(set(values) - {""}) + 1


@given(st.lists(TEXT), st.lists(TEXT))
def test_unseen_values_are_0_and_order_does_not_matter(values: list[str], others: list[str]) -> None:
    vocabulary = Vocabulary.fit(values)
    assert vocabulary == Vocabulary.fit(reversed(values))
    indices = vocabulary.encode(pd.Series(others, dtype=object))
    assert [index > 0 for index in indices] == [value in vocabulary.values for value in others]


@given(st.dictionaries(TEXT, st.lists(TEXT), max_size=3))
def test_files_hold_every_value(content: dict[str, list[str]]) -> None:
    vocabularies = {name: Vocabulary.fit(values) for name, values in content.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_vocabularies(vocabularies, Path(folder))
        assert load_vocabularies(Path(folder)) == vocabularies


def test_missing_and_rare_values_have_no_index() -> None:
    vocabulary = Vocabulary.fit(["b", None, "a", "a", np.nan, "b", "c"], min_count=2)
    assert vocabulary.values == ("a", "b")
    assert vocabulary.encode(pd.Series(["c", None, np.nan, "b"], dtype=object)).tolist() == [0, 0, 0, 2]
    assert Vocabulary.fit([]).encode(pd.Series(["a"], dtype=object)).tolist() == [0]


def test_lists_by_hand() -> None:
    """Unseen values leave no gap; what does not fit is cut; the index of the column plays no part."""
    cells = pd.Series([["b", "z", "a"], [], np.array(["c", "b", "a"], dtype=object)], index=[5, 5, 9])
    encoded = encode_lists(Vocabulary.fit("abc"), cells, 2)
    assert encoded.tolist() == [[2, 1], [0, 0], [3, 2]]
    assert encode_lists(Vocabulary.fit(""), cells, 1).tolist() == [[0], [0], [0]]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 5}', "null"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / VOCABULARIES_FILE).write_text(content, "utf-8")
    with pytest.raises(ArtifactError, match="vocabularies"):
        load_vocabularies(tmp_path)
