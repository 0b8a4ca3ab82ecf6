"""Nothing that somebody wrote into an id or a title reaches the terminal as a command."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from lorefuse.core.terminal import cell, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Movie [red]", "Movie [red]"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("a\rb\x08c\x00", "abc"),
        ("left \u202eright", "left right"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Amélie 映画", "Amélie 映画"),
    ],
)
def test_a_terminal_has_nothing_to_act_on(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize("text", ["[/x]", "Movie [red]", "[link=https://example.org]x[/link]", "a\n b"])
def test_brackets_in_a_cell_stand_for_themselves(text: str) -> None:
    stream = io.StringIO()
    table = Table("title")
    table.add_row(cell(text))
    Console(file=stream, width=80).print(table)
    assert " ".join(text.split()) in stream.getvalue()
