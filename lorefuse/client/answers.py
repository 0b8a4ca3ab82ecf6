"""Requests and answers as typed objects; the sync and the asyncio client share every line of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.client.connection import outputs_of
from lorefuse.core.errors import UsageError
from lorefuse.export.wire import Content, content_of, content_of_texts, split_texts
from lorefuse.privacy.pseudonyms import Pseudonymizer, from_environment

Filters = Mapping[str, str | Sequence[str]] | Sequence[str]
"""Column → value or alternatives; or texts such as ``"genres=War"`` and ``"genres!=Horror"``."""
PROVENANCE = ("model_version", "data_cutoff", "alias", "embedding_address")
_MAX_INT32 = 2**31 - 1
USER_TENSORS = ("user_fields", "user_numeric", "user_interest", "user_history")


@dataclass(frozen=True)
class ScoredItem:
    """One recommended item.

    Attributes:
        item_id: Raw id.
        title: What people read.
        score: Chance that the item is liked next, where a blend finds the candidates; else the ranker's own:
            probability of a like once the user has the item, or the predicted value for regression.
    """

    item_id: str
    title: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """The answer for one user.

    Attributes:
        items: Best first; fewer than asked for where no more items remain.
        liked_titles: What the user liked, newest first; empty for somebody without history.
        model_version: Version that answered.
        data_cutoff: Latest training timestamp it knows, ISO 8601 in UTC.
        alias: Alias in the registry that asked for this version's deployment.
        embedding_address: Address of the space its text vectors live in.
    """

    items: list[ScoredItem]
    liked_titles: list[str]
    model_version: str
    data_cutoff: str
    alias: str = ""
    embedding_address: str = ""


@dataclass(frozen=True)
class NewItemScore:
    """What a user would think of an item that is known by its text alone.

    Attributes:
        score: As `ScoredItem.score`.
        vector: The text's embedding before reduction, float32 (D,).
        model_version: Version that answered.
        data_cutoff: Latest training timestamp it knows, ISO 8601 in UTC.
        alias: Alias in the registry that asked for this version's deployment.
        embedding_address: Address of the vector's space.
    """

    score: float
    vector: NDArray[np.float32]
    model_version: str
    data_cutoff: str
    alias: str
    embedding_address: str


def recommend_inputs(
    user_id: str | int,
    k: int,
    exclude_seen: bool,
    candidates: Sequence[str | int] | None,
    filters: Filters | None,
    context: Mapping[str, str] | None,
    context_vector: Sequence[float] | NDArray[Any] | None = None,
    names: Pseudonymizer | None = None,
) -> dict[str, Content]:
    """Return the tensors of one `recommend` request; `names` turns the user's id into a pseudonym.

    Raises:
        UsageError: k is below 1, or a text is empty or not what it should be.
    """
    user = user_text(user_id, names)
    number = _whole(k)
    if number < 1:
        raise UsageError("k must be at least 1.", got=str(k))
    inputs = {
        "user_id": content_of_texts([user]),
        "k": Content("INT32", (1, 1), struct.pack("<i", min(number, _MAX_INT32))),
    }
    if not exclude_seen:  # what the server does where nobody says: a tensor less to carry
        inputs["exclude_seen"] = Content("BOOL", (1, 1), b"\0")
    if candidates is not None:
        if isinstance(candidates, str) or not isinstance(candidates, Iterable):
            raise UsageError("candidates must be a list of item ids.", got=repr(candidates))
        inputs["candidates"] = content_of_texts([_text(item, "candidates") for item in candidates])
    if filters:
        inputs["filters"] = content_of_texts(_conditions(filters))
    if context:
        if not isinstance(context, Mapping):
            raise UsageError("context must be a mapping.", expected='{"gender": "F"}', got=repr(context))
        pairs = [f"{column}={_text(value, f'context[{column!r}]')}" for column, value in context.items()]
        inputs["context"] = content_of_texts(pairs)
    if context_vector is not None:
        vector = np.asarray(context_vector, dtype=np.float32).reshape(1, -1)
        inputs["context_vector"] = content_of("context_vector", vector)
    return inputs


def user_text(user_id: str | int, names: Pseudonymizer | None = None) -> str:
    """Return a user's id as a dataset has it: as it is, or the pseudonym that `names` makes of it.

    Raises:
        UsageError: It is empty, no id, or a pseudonym of another key.
    """
    text = _text(user_id, "user_id")
    if not text:
        raise UsageError("The user id is empty.", expected="a user_id of the dataset, or any new one")
    return names.of(text) if names else text


def names_of(privacy_key: str | None) -> Pseudonymizer | None:
    """Return what makes a client's pseudonyms; None where ids go out as they are.

    Args:
        privacy_key: The key; None: the environment's, where it has one; empty: none.

    Raises:
        ConfigError: The key is too short.
    """
    if privacy_key is None:
        return from_environment()
    return Pseudonymizer(privacy_key) if privacy_key else None


def new_item_inputs(text: str, user_id: str | int | None, names: Pseudonymizer | None = None) -> dict[str, Content]:
    """Return the tensors of one `embed` request.

    Raises:
        UsageError: The text is empty.
    """
    if not text.strip():
        raise UsageError("The new item's text is empty.", expected="a title, or a few words about it")
    user = "" if user_id is None else _text(user_id, "user_id")
    user = names.of(user) if names and user else user
    return {"text": content_of_texts([text])} | ({"user_id": content_of_texts([user])} if user else {})


def recommendation(response: Any) -> Recommendation:
    """Read the answer of `recommend` for one user from its outputs as they travelled: an array each would cost more."""
    contents = {o.name: data for o, data in zip(response.outputs, response.raw_output_contents, strict=True)}
    scores = np.frombuffer(contents["score"], np.float32).tolist()
    rows = zip(split_texts(contents["item_id"]), split_texts(contents["title"]), scores, strict=True)
    return Recommendation(
        # An empty id is padding.
        items=[ScoredItem(item.decode(), title.decode(), score) for item, title, score in rows if item],
        liked_titles=[title.decode() for title in split_texts(contents["liked_title"]) if title],
        # A server of an older release knows fewer of them.
        **{name: split_texts(contents[name])[0].decode() for name in PROVENANCE if name in contents},
    )


def new_item_score(response: Any) -> NewItemScore:
    """Read the answer of `embed` for its first text."""
    got = outputs_of(response)
    return NewItemScore(score=float(got["score"][0, 0]), vector=got["vector"][0], **_provenance(got))


def _provenance(got: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    names = ("model_version", "data_cutoff", "alias", "embedding_address")
    # A server of an older release knows fewer of them.
    return {name: got[name][0, 0].decode() for name in names if name in got}


def _conditions(filters: Filters) -> list[str]:
    if isinstance(filters, str) or not isinstance(filters, Iterable):
        raise UsageError("filters must be a mapping or a list of texts.", got=repr(filters))
    if not isinstance(filters, Mapping):
        return [_text(condition, "filters") for condition in filters]
    return [
        f"{column}={_text(value, f'filters[{column!r}]')}"
        for column, values in filters.items()
        for value in ([values] if isinstance(values, str) or not isinstance(values, Iterable) else values)
    ]


def _text(value: Any, name: str) -> str:
    """Return an id or a category as a dataset has it: text without blanks around it, whole numbers without ``.0``."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and value % 1 == 0):
        return str(int(value))
    raise UsageError(
        f"{name} holds what is no text.",
        expected="a text, or a whole number",
        got=f"{value!r} ({type(value).__name__})",
        fix=f"write it as text, or leave {name.partition('[')[0]} out",
    )


def _whole(k: Any) -> int:
    """Return a number of items; what is no whole number is none."""
    is_text = isinstance(k, str) and k.strip().removeprefix("+").isdecimal()
    is_number = isinstance(k, int | float | np.integer | np.floating) and not isinstance(k, bool)
    if is_text or (is_number and k % 1 == 0):
        return int(k)
    raise UsageError("k must be a whole number.", got=repr(k))
