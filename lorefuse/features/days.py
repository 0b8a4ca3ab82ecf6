"""Days divided into ranges."""

from __future__ import annotations

from datetime import date, timedelta

from lorefuse.core.errors import UsageError

MAX_RANGES = 1000


def day_ranges(first: str, last: str, num_days: int) -> list[dict[str, str]]:
    """Divide days into ranges.

    Args:
        first: First day, ``2026-01-31``.
        last: Last day, itself included.
        num_days: Days of a range; the last one may have fewer.

    Returns:
        `first` and `last` of each range, in order of time.

    Raises:
        UsageError: A day cannot be read, the last lies before the first, or there would be more than 1,000 ranges.
    """
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError as error:
        raise UsageError(
            "A day cannot be read.", expected="YYYY-MM-DD", got=str(error), fix="--first, --last"
        ) from None
    if end < start or num_days < 1:
        raise UsageError(
            "There are no days to backfill.",
            expected="a last day that is not before the first, and at least one day in a range",
            got=f"{first} to {last}, {num_days} in a range",
        )
    starts = [start + timedelta(days=n) for n in range(0, (end - start).days + 1, num_days)]
    if len(starts) > MAX_RANGES:
        raise UsageError(
            "That are too many ranges.", expected=f"at most {MAX_RANGES}", got=str(len(starts)), fix="raise --days"
        )
    return [
        {"first": day.isoformat(), "last": min(day + timedelta(days=num_days - 1), end).isoformat()} for day in starts
    ]
