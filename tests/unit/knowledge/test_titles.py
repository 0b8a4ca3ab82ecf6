"""Titles of two catalogues: what counts as the same film, and what does not."""

from __future__ import annotations

import pandas as pd
import pytest

from lorefuse.data.titles import match_titles, title_keys


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Toy Story (1995)", ["toy story"]),
        ("Postino, Il", ["postino"]),
        ("Il Postino", ["postino"]),
        ("Misérables, Les", ["miserables"]),
        ("Enfer, L'", ["enfer"]),
        ("City of Lost Children, The (Cité des enfants, La)", ["city of lost children", "cite des enfants"]),
        ("Seven (a.k.a. Se7en)", ["seven", "se7en"]),
        ("Beauty & the Beast", ["beauty and the beast"]),
        ("Schindler's List", ["schindlers list"]),
        ("The", ["the"]),
        ("???", []),
        ("", []),
    ],
)
def test_a_title_is_known_under_its_plain_forms(title: str, keys: list[str]) -> None:
    assert title_keys(title) == keys


def match(title: str, year: str, *reference: tuple[str, int]) -> str | None:
    """Return the title that was found in the reference."""
    items = pd.DataFrame({"item_id": ["x"], "title": [title], "release_year": [year]})
    table = pd.DataFrame(reference, columns=["title", "year"])
    table["reference_id"] = table["title"] + table["year"].astype(str)
    return match_titles(items, table).get("x")


@pytest.mark.parametrize(
    ("title", "year", "other", "other_year"),
    [
        ("Postino, Il", "1994", "Postman, The (Postino, Il)", 1994),
        ("Usual Suspects, The", "1995", "The Usual Suspects", 1996),
        ("Star Trek: The Wrath of Khan", "1982", "Star Trek II: The Wrath of Khan", 1982),
        ("Interview with the Vampire", "1994", "Interview with the Vampire: The Vampire Chronicles", 1994),
        ("Grand Day Out, A", "1992", "Grand Day Out with Wallace and Gromit, A", 1991),
    ],
)
def test_the_same_film_under_another_title(title: str, year: str, other: str, other_year: int) -> None:
    assert match(title, year, (other, other_year), ("Something Else", int(year))) == f"{other}{other_year}"


@pytest.mark.parametrize(
    ("title", "year", "other", "other_year"),
    [
        ("Sabrina", "1995", "Sabrina", 1954),
        ("Shadow, The", "1994", "Shadow Conspiracy", 1994),
        ("Home Alone", "1990", "Home Movies", 1990),
        ("", "1995", "Anything", 1995),
        ("Toy Story", "", "Toy Story", 1995),
    ],
)
def test_another_film_is_not_taken_for_it(title: str, year: str, other: str, other_year: int) -> None:
    assert match(title, year, (other, other_year)) is None


def test_the_nearest_year_wins() -> None:
    assert match("Hamlet", "1996", ("Hamlet", 1995), ("Hamlet", 1996), ("Hamlet", 1997)) == "Hamlet1996"


def test_two_candidates_that_are_as_close_are_no_match() -> None:
    assert match("Great Escape Story", "1990", ("Great Escape Story A1", 1990), ("Great Escape Story B2", 1990)) is None
