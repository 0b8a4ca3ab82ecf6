"""Match items of two catalogues by title and year."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict

import pandas as pd

ARTICLES = "the|a|an|la|le|les|il|lo|el|los|las|das|der|die|den|un|une|l"
MAX_YEARS_APART = 1
MIN_SIMILARITY = 95.0


def title_keys(title: str) -> list[str]:
    """Return the normalised forms under which a title may be known: the main title, then any in brackets.

    Accents, case, punctuation, a year in brackets and a leading or trailing article do not count.

    Example:
        >>> title_keys("City of Lost Children, The (Cité des enfants perdus, La)")
        ['city of lost children', 'cite des enfants perdus']
    """
    plain = unicodedata.normalize("NFKD", title)
    plain = "".join(ch for ch in plain if not unicodedata.combining(ch)).lower()
    plain = re.sub(r"\(\d{4}\)", "", plain)
    variants = [re.sub(r"\(.*?\)", "", plain), *re.findall(r"\((?:a\.?k\.?a\.? )?(.*?)\)", plain)]
    keys = []
    for variant in variants:
        variant = re.sub(rf"^(.*), ({ARTICLES})'?\s*$", r"\1", variant.strip())
        variant = re.sub(r"[^a-z0-9]+", " ", variant.replace("&", " and ").replace("'", "")).strip()
        variant = re.sub(rf"^({ARTICLES}) ", "", variant)
        if variant and variant not in keys:
            keys.append(variant)
    return keys


def match_titles(items: pd.DataFrame, reference: pd.DataFrame) -> dict[str, str]:
    """Find each item in a reference catalogue.

    First by equal keys; then, for what is left, by the closest title of the same years, where one title holds all
    the words of the other (``Star Trek: The Wrath of Khan`` and ``Star Trek II: The Wrath of Khan``) and no second
    candidate is as close.

    Args:
        items: Columns item_id, title, release_year (text).
        reference: Columns reference_id, title, year (number).

    Returns:
        item_id → reference_id, for the items that were found.
    """
    by_key: dict[str, list[tuple[float, str]]] = defaultdict(list)
    by_year: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for reference_id, title, year in reference[["reference_id", "title", "year"]].itertuples(index=False):
        for key in title_keys(title):
            by_key[key].append((year, reference_id))
            by_year[int(year)].append((key, reference_id))
    found = {}
    for item_id, title, year_text in items[["item_id", "title", "release_year"]].itertuples(index=False):
        if not year_text:
            continue
        year = int(year_text)
        equal = [
            (abs(reference_year - year), rank, reference_id)
            for rank, key in enumerate(title_keys(title))
            for reference_year, reference_id in by_key[key]
            if abs(reference_year - year) <= MAX_YEARS_APART
        ]
        match = min(equal)[2] if equal else _closest(title_keys(title), year, by_year)
        if match is not None:
            found[item_id] = match
    return found


def _closest(keys: list[str], year: int, by_year: dict[int, list[tuple[str, str]]]) -> str | None:
    from rapidfuzz import fuzz

    years = range(year - MAX_YEARS_APART, year + MAX_YEARS_APART + 1)
    candidates = [entry for near in years for entry in by_year.get(near, [])]
    scores: dict[str, float] = {}
    for key in keys:
        words = set(key.split())
        for other, reference_id in candidates:
            shared = words & set(other.split())
            # One shared word says little ("Shadow"); two, or a whole long title inside the other, say much.
            if len(shared) >= 2 and fuzz.token_set_ratio(key, other) >= MIN_SIMILARITY:
                scores[reference_id] = max(scores.get(reference_id, 0.0), fuzz.ratio(key, other))
    ranked = sorted(scores.items(), key=lambda entry: -entry[1])
    if not ranked or (len(ranked) > 1 and ranked[1][1] == ranked[0][1]):
        return None
    return ranked[0][0]
