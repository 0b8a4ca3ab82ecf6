"""Item columns → one text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.core.errors import ConfigError
from lorefuse.embedding.prompt import TEMPLATES, item_texts

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


MIXED = pd.DataFrame(
    {
        "title": ["黑客帝国", "بداية", "Amélie", "👩‍🚀 on Mars", "Cafe\u0301", None],
        "by": [["沃卓斯基", "沃卓斯基"], None, ["Jeunet"], [], ["é"], None],
        "year": np.array([1999, 2010, np.nan, 2021.5, 2000, np.nan], dtype=np.float32),
    }
)


def test_a_template_of_ones_own_in_many_languages_with_gaps() -> None:
    assert item_texts(MIXED, (), "{title}[ ({year})][, {by}].") == [
        "黑客帝国 (1999), 沃卓斯基, 沃卓斯基.",
        "بداية (2010).",
        "Amélie, Jeunet.",
        "👩‍🚀 on Mars (2021.5).",
        "Cafe\u0301 (2000), é.",
        "",
    ]


def test_nothing_is_normalised_away() -> None:
    """Composed and decomposed accents, emoji joiners and full-width letters stay as they came."""
    cells = ["Caf\u00e9", "Cafe\u0301", "👩\u200d🚀", "ＡＢＣ", "ИТОГ", "ß", "שלום\u200f"]
    frame = pd.DataFrame({"title": cells})
    for prompt in ("plain@1", "{title}"):
        assert item_texts(frame, ["title"], prompt) == cells


def test_doubled_brackets_stand_for_themselves() -> None:
    assert item_texts(MIXED[:1], (), "{{x}} [[{title}]]") == ["{x} [黑客帝国]"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("{title", "'{' without its partner"),
        ("title} {by}", "'}' without its partner"),
        ("{title}[ by {by}", "'[' without its partner"),
        ("{title} by]", "']' without its partner"),
        ("[a [{title}]]", "without its partner"),
        ("{{title}}", "no {column}"),
        ("{title.__class__}", "title.__class__"),
        ("{plot}", "plot"),
    ],
)
def test_templates_that_cannot_be_used_say_why(prompt: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        item_texts(MIXED, (), prompt)
    assert said in str(caught.value)
    assert "fix:" in str(caught.value)


@given(cells=st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_comes_through_whole_but_for_white_space(cells: list[str]) -> None:
    frame = pd.DataFrame({"title": cells})
    assert [text.split() for text in item_texts(frame, (), "{title}")] == [cell.split() for cell in cells]
