"""What is kept of an erasure: the list of who was forgotten, receipts, and deadlines; damage is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.settings import settings
from lorefuse.erasure.note import Note
from lorefuse.erasure.receipt import check_receipt, write_receipt
from lorefuse.privacy.forgotten import Forgotten
from lorefuse.privacy.pseudonyms import Pseudonymizer
from lorefuse.privacy.retrain import due, load_queue, queue, refuse_overdue
from tests.unit.privacy.conftest import KEY, OTHER_KEY


def test_the_list_knows_whom_it_was_told_of_and_names_nobody(tmp_path: Path) -> None:
    Forgotten().with_ids(["anna@example.org"]).with_ids(["u2"]).save(tmp_path)
    known = Forgotten.load(tmp_path)
    assert "anna@example.org" in known
    assert "u2" in known
    assert "u3" not in known
    assert "anna" not in (tmp_path / "privacy" / "forgotten.jsonl").read_text()
    assert Forgotten.load(tmp_path / "elsewhere").digest == ""


def test_a_damaged_list_stops_an_ingest(tmp_path: Path) -> None:
    Forgotten().with_ids(["u2"]).save(tmp_path)
    path = tmp_path / "privacy" / "forgotten.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ArtifactError, match="could bring back people"):
        Forgotten.load(tmp_path)


@pytest.mark.parametrize("names", [None, Pseudonymizer(KEY)])
def test_a_receipt_that_was_changed_is_told(tmp_path: Path, names: Pseudonymizer | None) -> None:
    path = write_receipt(tmp_path, {"person": "0123456789", "done": []}, names)
    assert check_receipt(path, names)["person"] == "0123456789"
    if names:
        with pytest.raises(ArtifactError, match="is not what was signed"):
            check_receipt(path, Pseudonymizer(OTHER_KEY))
    path.write_text(path.read_text().replace('"done": []', '"done": [1]'))
    with pytest.raises(ArtifactError, match="is not what was signed"):
        check_receipt(path, names)


def test_a_version_keeps_its_first_deadline_and_is_refused_after_it() -> None:
    first = queue([due("ranker", "3", "m-1", 30)])
    assert queue([due("ranker", "3", "m-1", 90), due("ranker", "4", "m-2", 1)])[0] == first[0]
    assert datetime.fromisoformat(first[0].deadline) - datetime.now(UTC) > timedelta(days=29)
    refuse_overdue("ranker", "3", "models:/m-1")
    path = settings().home_path / "privacy" / "retrain.json"
    path.write_text(path.read_text().replace(first[0].deadline, "2020-01-01T00:00:00+00:00"))
    with pytest.raises(UsageError, match=r"its time is over\.(.|\n)*fix: train one without them"):
        refuse_overdue("ranker", "3", "models:/m-1")
    refuse_overdue("ranker", "3", "models:/m-of a registry that was begun anew")
    path.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_queue()


def test_a_note_outlives_a_line_that_was_cut_short(tmp_path: Path) -> None:
    note = Note.open(tmp_path, "a" * 64)
    note.add("drop", path="one")
    with note.path.open("a") as stream:
        stream.write('{"kind": "drop", "pa')
    again = Note.open(tmp_path, "a" * 64)
    again.add("drop", path="two")
    again.add("drop", path="one")
    assert Note.open(tmp_path, "a" * 64).of("drop") == [{"path": "one"}, {"path": "two"}]
    again.close()
    assert not json.loads(json.dumps(Note.open(tmp_path, "a" * 64).entries))
