"""Item columns → one text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lorefuse.embedding.prompt import TEMPLATES, item_texts
from lorefuse.errors import ConfigError

ITEMS = pd.DataFrame(
    {
        "item_id": ["1", "2", "3", "4"],
        "title": ["Toy Story", "  Amélie\n(Le fabuleux\tdestin) ", "E.T.", None],
        "genres": [np.array(["Animation", "Comedy"], dtype=object), ["浪漫", None, " "], [], None],
        "release_year": ["1995", "", float("nan"), pd.NA],
    }
)
COLUMNS = ("title", "genres", "release_year")


def test_default_names_each_column_and_skips_what_is_missing() -> None:
    assert item_texts(ITEMS, COLUMNS, "default@1") == [
        "Title: Toy Story. Genres: Animation, Comedy. Release year: 1995.",
        "Title: Amélie (Le fabuleux destin). Genres: 浪漫.",
        "Title: E.T.",
        "",
    ]


def test_plain_holds_the_cells_alone() -> None:
    assert item_texts(ITEMS, COLUMNS, "plain@1")[0] == "Toy Story. Animation, Comedy. 1995"


def test_without_text_columns_every_text_is_empty() -> None:
    assert item_texts(ITEMS, (), "default@1") == ["", "", "", ""]


@pytest.mark.parametrize(
    ("columns", "prompt", "expected"),
    [(COLUMNS, "default@9", sorted(TEMPLATES)), (("title", "plot"), "default@1", ["release_year"])],
)
def test_unknown_names_are_refused_with_the_known_ones(columns: tuple[str, ...], prompt: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        item_texts(ITEMS, columns, prompt)
    assert all(name in str(caught.value) for name in expected)
