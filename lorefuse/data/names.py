"""Names of the user's columns inside Lorefuse: any name may stand in a file, and none meets one of ours.

A column whose name Lorefuse uses for something of its own (``label``, ``event_timestamp``, …) is called
``own_<name>`` from the dataset on; a category of users that bears the name of one of items is called
``user_<name>``, and a second column whose name differs from another's in case alone gets a number. Every other column
keeps its name. A name from inside is never changed again, so a dataset's own files can be read like anybody's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lorefuse.core.schema import (
    COLD,
    ENTITY_ID,
    EVENT_TIMESTAMP,
    GRAPH,
    HEAD,
    ITEM_ID,
    LABEL,
    RELATION,
    ROW_ID,
    ROW_TEXTS,
    SPLIT,
    TAIL,
    TEXT,
    USER_ID,
    VALUE,
    Tensor,
    View,
    block_names,
)

if TYPE_CHECKING:
    from lorefuse.data.tables import Roles

_log = logging.getLogger(__name__)
PREFIX, USER_PREFIX = "own_", "user_"


_COLUMNS = (
    *(USER_ID, ITEM_ID, EVENT_TIMESTAMP, VALUE, LABEL, ROW_ID, *ROW_TEXTS),
    *(SPLIT, COLD, ENTITY_ID, HEAD, RELATION, TAIL, "__line__"),
)
_FEATURES = (
    *("user_log_count", "user_mean_label", "item_log_count", "item_mean_label", "item_mean_residual", "item_prior"),
    *("profile_text", "written_text", "recent_liked", "seen"),
    *(name for block in (TEXT, GRAPH) for name in block_names(block)),
)
OURS = frozenset(name.lower() for name in (*_COLUMNS, *_FEATURES, *View, *Tensor))
"""Names that Lorefuse uses itself."""
_UNSAFE = ":"
"""Feast parts a view from its feature by it."""


def inner_name(column: str) -> str:
    """Return what a column is called from the dataset on.

    Example:
        >>> inner_name("genre"), inner_name("label"), inner_name(inner_name("label"))
        ('genre', 'own_label', 'own_label')
    """
    plain = column.replace(_UNSAFE, "_")
    return PREFIX + plain if plain.lower() in OURS else plain


def shown_name(inner: str) -> str:
    """Return what a column is called where people read it: `inner_name` undone."""
    bare = inner.removeprefix(PREFIX)
    return bare if bare.lower() in OURS else inner


def own_column(columns: Iterable[str], name: str) -> str:
    """Return which of a dataset's columns a user means by a name: their own, where they have one of that name."""
    inner = inner_name(name)
    return inner if inner in set(columns) else name


def item_names(columns: Iterable[str]) -> dict[str, str]:
    """Return each item column's name inside, by its name in the file."""
    return _distinct({column: inner_name(column) for column in columns})


def user_names(columns: Iterable[str], item_categories: Iterable[str]) -> dict[str, str]:
    """Return each user column's name inside, by its name in the file.

    Args:
        columns: Categories of users.
        item_categories: Names inside of the items' categories, which have their vocabularies beside these.

    Example:
        >>> user_names(["country", "age"], ["country"])
        {'country': 'user_country', 'age': 'age'}
    """
    taken = {name.lower() for name in item_categories}
    names = {column: inner_name(column) for column in columns}
    return _distinct({column: USER_PREFIX + n if n.lower() in taken else n for column, n in names.items()}, taken)


def report_renamed(items: Mapping[str, str], users: Mapping[str, str]) -> dict[str, object]:
    """Say which columns have another name inside, and return them for the dataset's manifest: nothing where none has.

    Args:
        items: From `item_names`.
        users: From `user_names`.
    """
    report: dict[str, object] = {}
    for table, names in (("items", items), ("users", users)):
        renamed = {column: name for column, name in names.items() if column != name}
        if renamed:
            listed = ", ".join(f"{column} → {name}" for column, name in renamed.items())
            _log.warning("Columns of %s whose names are taken have others from here on: %s", table, listed)
            report[f"renamed_{table}"] = renamed
    return report


def said_names(roles: Roles, reports: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return which categories of items and which of users people mean by names that are none inside.

    Args:
        roles: The part each column plays, by its name inside.
        reports: Of the dataset's manifest, see `report_renamed`.

    Returns:
        Name as people say it → name inside, of items and of users: first what their files say, which is lost where a
        dataset's own files have been read again, then what the names inside tell.
    """
    items = [*roles.item_categories, *roles.item_multi_categories]
    bare = {name: name.removeprefix(USER_PREFIX) for name in roles.user_categories}
    of_items = {shown_name(name): name for name in items}
    of_users = {shown_name(bare[name] if bare[name] in items else name): name for name in roles.user_categories}
    of_items |= reports.get("renamed_items") or {}
    of_users |= reports.get("renamed_users") or {}
    return _changed(of_items, items), _changed(of_users, roles.user_categories)


def _changed(names: Mapping[str, str], inside: Iterable[str]) -> dict[str, str]:
    known = set(inside)
    return {said: name for said, name in names.items() if said != name and name in known}


def _distinct(names: dict[str, str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Number names that would be one; to DuckDB, and so to the feature store, ``Genre`` and ``genre`` are."""
    used, result = set(taken), {}
    for column, name in names.items():
        number, free = 2, name
        while free.lower() in used:
            number, free = number + 1, f"{name}_{number}"
        used.add(free.lower())
        result[column] = free
    return result
