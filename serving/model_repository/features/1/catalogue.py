"""Which rows of the catalogue a user may be shown: candidates, filters, and what they have seen."""

import numpy as np
from recommend_request import RequestError, shown

MAX_NAMED = 12
"""Columns that an error names."""
NOTHING = np.zeros(0, np.int64)


def as_said(columns, said):
    """Return columns by the names that people give them."""
    names = {inner: name for name, inner in said.items()}
    return [names.get(column, column) for column in columns]


class ServedCatalogue:
    """The catalogue of one version.

    Args:
        item_ids: In order of the rows.
        filters: Column → value → rows that have it.
        num_excluded: Most seen items left out for one user.
        popular_rows: All rows, the most liked first.
        short: Name the rows that may be shown, as -2 - row, where they are fewer than the others: `retrieve` reads
            both, and past one graph the others are many.
        said: Column as people name it → column as it is named here.
    """

    def __init__(self, item_ids, filters, num_excluded, popular_rows, short=False, said=None):
        self.num_items = len(item_ids)
        self.row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self.filters = {
            column: {value: np.array(rows, np.int64) for value, rows in values.items()}
            for column, values in filters.items()
        }
        self.num_excluded, self.short, self.said = num_excluded, short, said or {}
        self.popular_rows = np.array(popular_rows, np.int64)

    def exclude_rows(self, candidates, filters, seen, pool=None):
        """Return the rows that must not be returned, int64, padded with -1.

        Plain requests all get one width, so that Triton can batch them; the others are as wide as the catalogue, or in
        the short form.

        Args:
            candidates: Item ids; unknown and repeated ones do not count. None: every item.
            filters: Conditions; see `passing`.
            seen: Item ids, newest last: where there are more than the bound, the oldest may come back.
            pool: Allow only so many of the most liked items that pass; None, or a list of candidates: no such bound.
        """
        rows = map(self.row_of.get, seen)
        seen_rows = [row for row in rows if row is not None][-self.num_excluded :]
        if candidates is None and not filters and pool is None:
            result = np.full(self.num_excluded, -1, np.int64)
            result[: len(seen_rows)] = seen_rows
            return result
        allowed = self.passing(filters)
        if candidates is not None:
            chosen = np.zeros(self.num_items, bool)
            chosen[[self.row_of[item] for item in candidates if item in self.row_of]] = True
            allowed &= chosen
        allowed[seen_rows] = False
        if candidates is None and pool is not None:
            kept = self.popular_rows[allowed[self.popular_rows]][:pool]
            allowed = np.zeros(self.num_items, bool)
            allowed[kept] = True
        if self.short:
            return self._shorter(allowed)
        excluded = np.flatnonzero(~allowed)
        result = np.full(self.num_items, -1, np.int64)
        result[: len(excluded)] = excluded
        return result

    def _shorter(self, allowed):
        if 2 * np.count_nonzero(allowed) > self.num_items:
            return np.flatnonzero(~allowed)
        rows = np.flatnonzero(allowed)
        return -2 - (rows if len(rows) else np.array([self.num_items]))  # a row that is not there: nothing may be shown

    def passing(self, filters):
        """Return which items pass, bool (N,): one of the values of each column that is named, none of those refused.

        Args:
            filters: ``column=value`` (values of one column are alternatives) or ``column!=value`` (refused).

        Raises:
            RequestError: A filter does not read so, or the catalogue has no such column.
        """
        wanted = {}
        allowed = np.ones(self.num_items, bool)
        for entry in filters:
            name, sign, value = entry.partition("=")
            column = self.said.get(name.removesuffix("!"), name.removesuffix("!"))
            if not sign or not column:
                raise RequestError(f"filters must read column=value or column!=value; got {shown(entry)}")
            if column not in self.filters:
                known = ", ".join(sorted(as_said(self.filters, self.said))[:MAX_NAMED]) or "none"
                raise RequestError(f"the catalogue has no column {shown(column)} to filter by; it has: {known}")
            rows = self.filters[column].get(value, NOTHING)
            if name.endswith("!"):
                allowed[rows] = False
            else:
                wanted.setdefault(column, np.zeros(self.num_items, bool))[rows] = True
        for mask in wanted.values():
            allowed &= mask
        return allowed
