"""The training pipeline: raw interactions in, answers from Triton out. Each line is a stage, in order."""

from kfp import dsl

from components.bundle import bundle
from components.choose import choose
from components.deploy import deploy
from components.embed import embed
from components.evaluate import evaluate
from components.features import features
from components.ingest import ingest
from components.item_vectors import item_vectors
from components.lists import lists
from components.materialize import materialize
from components.register import register
from components.report import report
from components.split import split
from components.training_set import training_set
from components.tune import tune


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
    parts = split(config=config, strategy=strategy, dataset=data).outputs["parts"]

    # Which model, and which texts it reads: as the preset says, or the winner of a race on validation rows.
    race = choose(config=config, dataset=data, parts=parts, embeddings=asked_texts)
    chosen, choice = race.outputs["chosen_config"], race.outputs["choice"]
    texts = embed(config=chosen, dataset=data).outputs["embeddings"]

    # What is fitted is fitted on train rows, so all of this exists once per split.
    vectors = item_vectors(config=chosen, dataset=data, parts=parts, embeddings=texts).outputs["vectors"]
    source = features(config=chosen, dataset=data, parts=parts, vectors=vectors).outputs["feature_data"]
    store = materialize(config=chosen, feature_data=source).outputs["store"]
    rows = training_set(
        config=chosen, dataset=data, parts=parts, vectors=vectors, feature_data=source, store=store
    ).outputs["rows"]

    parts_2 = split(config=chosen, strategy=second_strategy, dataset=data).outputs["parts"]
    vectors_2 = item_vectors(config=chosen, dataset=data, parts=parts_2, embeddings=texts).outputs["vectors"]
    source_2 = features(config=chosen, dataset=data, parts=parts_2, vectors=vectors_2).outputs["feature_data"]
    store_2 = materialize(config=chosen, feature_data=source_2).outputs["store"]
    rows_2 = training_set(
        config=chosen, dataset=data, parts=parts_2, vectors=vectors_2, feature_data=source_2, store=store_2
    ).outputs["rows"]

    # The model with knowledge and the control without get the same number of trials.
    study = tune(config=chosen, arm="real", rows=rows).outputs["study"]
    control = tune(config=chosen, arm="none", rows=rows).outputs["study"]
    judged = evaluate(config=chosen, rows=rows, second_rows=rows_2, study=study, control=control)
    evaluation = judged.outputs["evaluation"]

    # What users see is a list: candidates from the whole catalogue, then the ranker.
    stages = lists(config=chosen, embeddings=texts, rows=rows, evaluation=evaluation).outputs["stages"]

    page = report(
        config=chosen, dataset=data, parts=parts, vectors=vectors, evaluation=evaluation, stages=stages, choice=choice
    ).outputs["page"]
    model = bundle(
        config=chosen,
        dataset=data,
        embeddings=texts,
        vectors=vectors,
        feature_data=source,
        rows=rows,
        evaluation=evaluation,
        stages=stages,
    ).outputs["model"]
    version = register(
        config=chosen,
        dataset=data,
        parts=parts,
        rows=rows,
        evaluation=evaluation,
        model=model,
        page=page,
        store=store,
        choice=choice,
    )
    with dsl.If(serve == True, name="serve"):  # noqa: E712  (kfp compares lazily)
        deploy(
            config=chosen,
            version=version.outputs["version"],
            promoted=version.outputs["promoted"],
            model=model,
            store=store,
        )
