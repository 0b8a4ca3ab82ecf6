"""Every format that may hold a person: found by structure, shown, and written without them and nobody else."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from lorefuse.core.errors import UsageError
from lorefuse.erasure.holders import holder_of, texts_of
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import search
from lorefuse.privacy.pseudonyms import Pseudonymizer
from tests.unit.privacy.conftest import KEY, OTHER_KEY

ANNA, SHORT = Person(("anna@example.org",)), Person(("42",))


def _without(path: Path, person: Person) -> tuple[int, list[object]]:
    """Return how often the person was there and what was read; the file is without them afterwards."""
    holder = holder_of(path)
    count, held = holder.count(path, person), holder.read(path, person)
    assert holder.erase is not None
    holder.erase(path, person)
    assert holder.count(path, person) == 0
    assert not [one for one in path.parent.iterdir() if one.name.startswith(".")], "nothing is left beside the file"
    return count, held


def test_rows_of_a_table_go_and_the_others_keep_their_order_and_numbers(tmp_path: Path) -> None:
    """An item of the same name is another thing."""
    path = tmp_path / "interactions.parquet"
    frame = pd.DataFrame(
        {"row_id": range(5), "user_id": ["42", "7", "42", "8", "7"], "item_id": ["1", "42", "2", "42", "3"]}
    )
    frame.to_parquet(path)
    count, held = _without(path, SHORT)
    assert (count, [row["item_id"] for row in held]) == (2, ["1", "2"])  # type: ignore[index]
    left = pd.read_parquet(path)
    assert left["row_id"].tolist() == [0, 1, 2]
    assert left["item_id"].tolist() == ["42", "42", "3"]
    assert left.dtypes.equals(frame.dtypes)


def test_texts_of_a_person_are_what_they_wrote_and_what_was_written_about_them(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    pd.DataFrame({"user_id": ["42", "7"], "review_text": ["good", "bad"]}).to_parquet(path)
    assert texts_of(path, SHORT) == {"good"}


def test_cells_of_an_online_store_go_and_no_free_page_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "online_store.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE lorefuse_user_stats (entity_key BLOB, feature_name TEXT, value BLOB)")
        for name in ("anna@example.org", "bob@example.org"):
            key = serialize_entity_key(
                EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=name)]),
                entity_key_serialization_version=3,
            )
            row = (key, "user_mean", Value(string_val=f"likes of {name}").SerializeToString())
            connection.execute("INSERT INTO lorefuse_user_stats VALUES (?, ?, ?)", row)
    count, held = _without(path, ANNA)
    assert count == 1
    assert held[0] == {
        "view": "lorefuse_user_stats", "feature": "user_mean", "value": {"stringVal": "likes of anna@example.org"}
    }  # fmt: skip
    assert b"anna" not in path.read_bytes()
    assert b"bob@example.org" in path.read_bytes()


def test_a_place_in_a_vocabulary_is_kept_by_what_nobody_can_ask_for(tmp_path: Path) -> None:
    path = tmp_path / "vocabularies.json"
    path.write_text(json.dumps({"user_id": ["7", "42", "8"], "item_id": ["42"], "country": ["42"]}))
    assert _without(path, SHORT)[0] == 1
    content = json.loads(path.read_text())
    assert content["user_id"] == ["7", "\0forgotten 1", "8"]
    assert (content["item_id"], content["country"]) == (["42"], ["42"])


def test_served_names_and_references_go(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    users = [{"user_id": "42", "fields": [2]}, {"user_id": "7", "fields": [1]}]
    path.write_text(
        json.dumps({"user_fields": [["user_id", ["7", "42"]]], "reference_users": users, "item_ids": ["42"]})
    )
    assert _without(path, SHORT)[0] == 2
    content = json.loads(path.read_text())
    assert content["reference_users"] == users[1:]
    assert content["item_ids"] == ["42"]


def test_lines_go_by_their_user_and_by_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    rows = [{"user_id": "42", "item_id": "1"}, {"user_id": "7", "item_id": "42"}, "42;1;broken", None]
    path.write_text("".join(json.dumps({"file": "f", "row": row}) + "\n" for row in rows))
    assert _without(path, SHORT)[0] == 2
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()] == [rows[1], None]


def test_a_shadow_log_knows_people_by_hashes(tmp_path: Path) -> None:
    path = tmp_path / "shadow.jsonl"
    names = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in ("42", "7")]
    path.write_text("".join(json.dumps({"user": name, "overlap": 1.0}) + "\n" for name in names))
    assert _without(path, SHORT)[0] == 1
    assert json.loads(path.read_text())["user"] == names[1]


def test_rows_of_a_csv_go(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text('user_id,name\n42,"Anna, A."\n7,"42"\n')
    assert _without(path, SHORT)[0] == 1
    assert path.read_text() == "user_id,name\n7,42\n"


@pytest.mark.parametrize("text", ["anna@example.org said", "<b>anna@example.org</b>", '"user": "anna@example.org"'])
def test_texts_lose_the_name_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"{text} joanna@example.org anna@example.orgs")
    assert _without(path, ANNA)[0] == 1
    assert path.read_text() == f"{text.replace('anna@example.org', '[forgotten]')} joanna@example.org anna@example.orgs"


def test_a_name_is_found_however_a_page_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "page.log"
    person = Person(("Zoë & <co>",))
    path.write_text('Zoë &amp; &lt;co&gt; "Zo\\u00eb & <co>" Zo%C3%AB%20%26%20%3Cco%3E')
    assert _without(path, person)[0] == 3
    assert "Zo" not in path.read_text()


def test_short_ids_are_not_looked_for_in_texts(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("42 rows")
    assert holder_of(path).count(path, SHORT) == 0
    assert not SHORT.is_searched_in_texts


def test_bytes_of_unknown_formats_are_told_and_left(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\0\1anna@example.org\0")
    holder = holder_of(path)
    assert (holder.count(path, ANNA), holder.erase) == (1, None)


def test_a_person_is_an_id_and_its_pseudonym() -> None:
    names = Pseudonymizer(KEY)
    assert Person.of(" u1 ", names).names == ("u1", names.of("u1"))
    assert Person.of(names.of("u1"), names).names == (names.of("u1"),)
    assert Person.of("u1", None).names == ("u1",)
    with pytest.raises(UsageError, match="empty"):
        Person.of(" ", None)
    with pytest.raises(UsageError, match="another key"):
        Person.of(Pseudonymizer(OTHER_KEY).of("u1"), names)


@pytest.mark.parametrize(
    "name", ["vocabularies.json", "users.parquet", "online_store.db", "features.json", "users.csv"]
)
def test_a_damaged_file_is_searched_as_bytes(tmp_path: Path, name: str) -> None:
    start = {"users.parquet": b"PAR1", "online_store.db": b"SQLite format 3\0", "users.csv": b"user_id\n\xff\n"}
    (tmp_path / name).write_bytes(start.get(name, b"[") + b"\0 anna@example.org \0")
    (place,) = search([tmp_path], ANNA, tmp_path / "home")
    assert (place.count, place.holder.erase) == (1, None)
