"""First and last day → ranges of days."""

from typing import Dict, List  # noqa: UP035  (kfp reads the types of a list's items from these)

from components.base import step


@step
def day_ranges(
    config: dict,  # type: ignore[type-arg]
    first: str,
    last: str,
    num_days: int,
) -> List[Dict]:  # type: ignore[type-arg]  # noqa: UP006
    """Divide days into ranges that are computed side by side.

    Args:
        config: `PipelineConfig` as a dict.
        first: First day, `YYYY-MM-DD`.
        last: Last day, itself included.
        num_days: Days of a range.

    Returns:
        `first` and `last` of each range.
    """
    from lorefuse.steps import backfill as steps

    return steps.day_ranges(config, first, last, num_days)
