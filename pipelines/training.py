"""The training pipeline: raw interactions in, answers from Triton out. Each line is a stage, in order."""

from kfp import dsl

from components.bundle import bundle
from components.choose import choose
from components.deploy import deploy
from components.embed import embed
from components.evaluate import evaluate
from components.ingest import ingest
from components.lists import lists
from components.register import register
from components.report import report
from components.split import split
from components.tune import tune
from pipelines.prepare import prepare


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="lorefuse-training", description="Inject language-model knowledge into a recommender and serve it"
)
def training(config: dict, strategy: str = "per_user_time", second_strategy: str = "global_time", serve: bool = True):  # type: ignore[no-untyped-def, type-arg]
    """Train, judge, register and serve.

    Args:
        config: `PipelineConfig` as a dict; what it leaves open (`auto`) is chosen here.
        strategy: Split that the model is tuned, judged and served on.
        second_strategy: Split on which it is judged once more.
        serve: Bring a new champion to Triton.
    """
    data = ingest(config=config).outputs["dataset"]
    asked_texts = embed(config=config, dataset=data).outputs["embeddings"]
    first = split(config=config, strategy=strategy, dataset=data).outputs["split"]

    # Which model, and which texts it reads: as the preset says, or the winner of a race on validation rows.
    race = choose(config=config, dataset=data, split=first, embeddings=asked_texts)
    chosen, choice = race.outputs["chosen_config"], race.outputs["choice"]
    texts = embed(config=chosen, dataset=data).outputs["embeddings"]

    # What is fitted is fitted on train rows, so all of this exists once per split.
    made = prepare(chosen, data, first, texts)
    second = split(config=chosen, strategy=second_strategy, dataset=data).outputs["split"]
    checked = prepare(chosen, data, second, texts).training_set

    # The model with knowledge and the control without get the same number of trials.
    rows = made.training_set
    study = tune(config=chosen, arm="real", training_set=rows).outputs["study"]
    control = tune(config=chosen, arm="none", training_set=rows).outputs["study"]
    judged = evaluate(config=chosen, training_set=rows, second_training_set=checked, study=study, control=control)
    evaluation = judged.outputs["evaluation"]

    # What users see is a list: candidates from the whole catalogue, then the ranker.
    stages = lists(config=chosen, embeddings=texts, training_set=rows, evaluation=evaluation).outputs["lists"]

    page = report(
        config=chosen,
        dataset=data,
        split=first,
        item_vectors=made.item_vectors,
        evaluation=evaluation,
        lists=stages,
        choice=choice,
    ).outputs["report"]
    model = bundle(
        config=chosen,
        dataset=data,
        embeddings=texts,
        item_vectors=made.item_vectors,
        feature_data=made.feature_data,
        training_set=rows,
        evaluation=evaluation,
        lists=stages,
    ).outputs["bundle"]
    version = register(
        config=chosen,
        dataset=data,
        split=first,
        training_set=rows,
        evaluation=evaluation,
        bundle=model,
        report=page,
        store=made.store,
        choice=choice,
    )
    with dsl.If(serve == True, name="serve"):  # noqa: E712  (kfp compares lazily)
        deploy(
            config=chosen,
            version=version.outputs["version"],
            promoted=version.outputs["promoted"],
            bundle=model,
            store=made.store,
        )
