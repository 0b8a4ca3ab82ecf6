"""Validation with pandera: each rule is a named check, and a row that breaks one goes to quarantine with that name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, USER_ID, VALUE
from lorefuse.data.quarantine import Quarantine
from lorefuse.data.times import MAX_CLOCK_SKEW

if TYPE_CHECKING:
    import pandera.pandas as pa

KEY = [USER_ID, ITEM_ID, EVENT_TIMESTAMP]
"""What makes an interaction the same interaction."""
DUPLICATE = "duplicate interaction"
REPEATED = f"{DUPLICATE}: the one with the highest value stays"
MAX_ID = 1024
"""Longest id that a request may ask for."""
EARLIEST = pd.Timestamp("1970-01-01", tz="UTC")


def validate(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, file: str, quarantine: Quarantine, raw: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the rows that pass; the others are recorded with the first rule they break.

    Rules of single cells come first; a repeat is judged among the rows that pass those, so that a bad row never
    takes a good one with it.

    Args:
        frame: Parsed table with the column `LINE`.
        schema: From one of the functions below.
        file: Name written to the quarantine.
        quarantine: Receives the rest.
        raw: The table before parsing, indexed alike, to be recorded as it came; default `frame`.
    """
    from pandera.errors import SchemaErrors

    raw = frame if raw is None else raw
    for only_cells in (True, False):
        try:
            schema.validate(frame, lazy=True)
            break
        except SchemaErrors as error:
            cases = error.failure_cases
        if cases["index"].isna().any():
            raise TypeError(f"{file}: a column has a type its schema does not know: {cases.to_string()}")
        if only_cells:
            cases = cases[cases["schema_context"] == "Column"]
        cases = cases.drop_duplicates("index")
        reasons = pd.Series(cases["check"].to_numpy(), index=cases["index"].astype(int)).sort_index()
        quarantine.add_rows(file, raw, reasons)
        frame = frame.drop(index=reasons.index)
    return frame.reset_index(drop=True)


def interactions_schema(item_ids: set[str], user_ids: set[str] | None, now: pd.Timestamp) -> pa.DataFrameSchema:
    """Rules of an interaction: known ids, a time between 1970 and now, a finite value, no repeat.

    Args:
        item_ids: Ids of the items table.
        user_ids: Ids of the users table; None where there is none.
        now: Current time; a day of clock skew is allowed.
    """
    import pandera.pandas as pa

    item_rules = [_filled(), _short(), pa.Check(lambda s: s.isin(item_ids), error="unknown item id")]
    user_rules = [_filled(), _short()]
    if user_ids is not None:
        user_rules.append(pa.Check(lambda s: s.isin(user_ids), error="unknown user id"))
    time_rules = [
        pa.Check(lambda s: s.notna(), error="timestamp cannot be read", ignore_na=False),
        pa.Check(lambda s: s <= now + MAX_CLOCK_SKEW, error="timestamp lies in the future"),
        pa.Check(lambda s: s >= EARLIEST, error="timestamp before 1970"),
    ]
    return pa.DataFrameSchema(
        {
            USER_ID: pa.Column(object, user_rules, nullable=True),
            ITEM_ID: pa.Column(object, item_rules, nullable=True),
            EVENT_TIMESTAMP: pa.Column(None, time_rules, nullable=True),
            VALUE: pa.Column(float, _finite("value"), nullable=True),
        },
        checks=[
            _no_repeat([*KEY, VALUE], DUPLICATE),
            pa.Check(lambda frame: _is_highest(frame) | frame.duplicated([*KEY, VALUE]), error=REPEATED),
        ],
    )


def entities_schema(key: str) -> pa.DataFrameSchema:
    """Rules of items and users: an id that is there and is not repeated."""
    import pandera.pandas as pa

    columns = {key: pa.Column(object, [_filled(), _short()], nullable=True)}
    return pa.DataFrameSchema(columns, checks=_no_repeat([key], f"duplicate {key}"))


def pairs_schema(columns: list[str], known: dict[str, set[str]] | None = None) -> pa.DataFrameSchema:
    """Rules of triples and links: every cell filled, no exact repeat, ids known where `known` names them."""
    import pandera.pandas as pa

    rules: dict[str, Any] = {}
    for name in columns:
        checks = [_filled()]
        if known and name in known:
            ids = known[name]
            checks.append(pa.Check(lambda s, ids=ids: s.isin(ids), error=f"unknown {name}"))
        rules[name] = pa.Column(object, checks, nullable=True)
    return pa.DataFrameSchema(rules, checks=_no_repeat(columns, "duplicate row"))


def _filled() -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda s: s.notna() & (s.astype(str).str.strip() != ""), error="empty id", ignore_na=False)


def _short() -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda s: s.str.len() <= MAX_ID, error=f"id longer than {MAX_ID:,} characters")


def _finite(name: str) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda s: np.isfinite(s), error=f"{name} is not a finite number", ignore_na=False)


def _is_highest(frame: pd.DataFrame) -> pd.Series:
    """Tell which rows have the highest value of their interaction; of equal ones `_no_repeat` tells the first."""
    several = frame[frame.duplicated(KEY, keep=False)]
    is_lower = several[VALUE] < several.groupby(KEY, sort=False)[VALUE].transform("max")
    return ~is_lower.reindex(frame.index, fill_value=False)


def _no_repeat(columns: list[str], reason: str) -> pa.Check:
    import pandera.pandas as pa

    return pa.Check(lambda frame: ~frame.duplicated(columns), error=reason)
