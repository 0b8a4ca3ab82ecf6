"""The tuning pipeline: generations of trials side by side, by ask and tell, with nothing shared but a JSON file."""

from typing import Any

from kfp import dsl

from components.ask_trials import ask_trials
from components.close_tuning import close_tuning
from components.embed import embed
from components.ingest import ingest
from components.open_study import open_study
from components.run_trial import run_trial
from components.split import split
from components.tell_trials import tell_trials
from pipelines.prepare import prepare

NUM_GENERATIONS = 4
"""A pipeline's loops cannot depend on each other a variable number of times, so this is fixed when it is compiled."""


def search(config: Any, arm: str, rows: Any, num_generations: int) -> Any:
    """Add the tasks of one arm's study to the pipeline that is being made; returns the finished study.

    Args:
        config: The pipeline's parameter.
        arm: `real` or `none`.
        rows: Training set.
        num_generations: Generation g knows what g − 1 found; trials of one generation run side by side.
    """
    study = open_study(config=config, arm=arm).outputs["study"]
    for generation in range(num_generations):
        asked = ask_trials(config=config, generation=generation, num_generations=num_generations, study=study)
        with dsl.ParallelFor(asked.output, name=f"{arm}-generation-{generation}") as trial:
            # Inside the loop a parameter of another task would be replaced by the loop's item: artifacts alone.
            tried = run_trial(config=config, arm=arm, trial=trial, study=study, training_set=rows)
        study = tell_trials(config=config, study=study, results=dsl.Collected(tried.output)).outputs["told"]
    return study


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="lorefuse-tuning", description="Search hyper-parameters of the model and of its control, side by side"
)
def tuning(config: dict, strategy: str = "per_user_time"):  # type: ignore[no-untyped-def, type-arg]
    """Tune with and without knowledge, with the same number of trials.

    Args:
        config: `PipelineConfig` as a dict; `tuning.num_trials` trials an arm.
        strategy: Split whose validation rows judge.
    """
    data = ingest(config=config).outputs["dataset"]
    texts = embed(config=config, dataset=data).outputs["embeddings"]
    parts = split(config=config, strategy=strategy, dataset=data).outputs["split"]
    rows = prepare(config, data, parts, texts).training_set
    real = search(config, "real", rows, NUM_GENERATIONS)
    control = search(config, "none", rows, NUM_GENERATIONS)
    close_tuning(config=config, real=real, control=control)
