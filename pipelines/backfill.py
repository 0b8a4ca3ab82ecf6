"""The backfill pipeline: features and text vectors of past days computed anew, range by range, side by side."""

from kfp import dsl

from components.backfill_days import backfill_days
from components.close_backfill import close_backfill
from components.day_ranges import day_ranges
from components.embed import embed
from components.ingest import ingest
from components.split import split
from pipelines.prepare import prepare


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="lorefuse-backfill", description="Features and text vectors of past days, computed anew"
)
def backfill(  # type: ignore[no-untyped-def]
    config: dict,  # type: ignore[type-arg]
    first: str,
    last: str,
    num_days: int = 7,
    strategy: str = "per_user_time",
):
    """Compute the features that each interaction of some days saw, as the current code and encoder make them.

    Args:
        config: `PipelineConfig` as a dict.
        first: First day, `YYYY-MM-DD` in UTC.
        last: Last day, itself included.
        num_days: Days of a range; ranges run side by side.
        strategy: Split whose train rows features are made of.
    """
    ranges = day_ranges(config=config, first=first, last=last, num_days=num_days)
    data = ingest(config=config).outputs["dataset"]
    texts = embed(config=config, dataset=data).outputs["embeddings"]
    parts = split(config=config, strategy=strategy, dataset=data).outputs["split"]
    made = prepare(config, data, parts, texts, join=False)
    with dsl.ParallelFor(ranges.output, name="days") as days:
        done = backfill_days(config=config, days=days, dataset=data, feature_data=made.feature_data, store=made.store)
    close_backfill(config=config, parts=dsl.Collected(done.outputs["part"]))
