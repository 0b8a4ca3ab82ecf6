"""The refresh pipeline: new rows in; features are brought up to date, and the model is trained again if it must be."""

from kfp import dsl

from components.append_rows import append_rows
from components.champion import champion
from components.deploy import deploy
from components.embed import embed
from components.ingest import ingest
from components.judge_refresh import judge_refresh
from components.split import split
from components.update_features import update_features
from components.update_store import update_store
from pipelines.prepare import prepare
from pipelines.training import training


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="lorefuse-refresh", description="Append new rows, hold the champion against them, train again if it must be"
)
def refresh(  # type: ignore[no-untyped-def]
    config: dict,  # type: ignore[type-arg]
    new_path: str,
    new_items_path: str = "",
    strategy: str = "per_user_time",
    second_strategy: str = "global_time",
    serve: bool = True,
):
    """Append, judge, and train again or say why not.

    Args:
        config: `PipelineConfig` of the champion, as a dict.
        new_path: File with new interactions, or a folder of them.
        new_items_path: File with new or changed items; empty where there is none.
        strategy: Split that the champion was judged on.
        second_strategy: Split on which a new model is judged once more.
        serve: Bring a new champion, or the old one's fresh features, to Triton.
    """
    # What the champion was trained with: all of it is there already, and read back.
    base = ingest(config=config).outputs["dataset"]
    model = champion(config=config, dataset=base).set_caching_options(False)  # the alias moves
    # Without a champion that fits there is nothing to judge: the rest waits for it.
    parts = split(config=config, strategy=strategy, dataset=base).after(model).outputs["split"]
    texts = embed(config=config, dataset=base).after(model).outputs["embeddings"]
    known = prepare(config, base, parts, texts, join=False)

    # Only new rows are validated, only new texts encoded, only new snapshots materialised.
    appended = append_rows(config=config, dataset=base, new_path=new_path, new_items_path=new_items_path)
    appended.after(model).set_caching_options(False)  # another file may lie at the same path
    grown = appended.outputs["grown"]
    new_texts = embed(config=config, dataset=grown).outputs["embeddings"]
    update = update_features(
        config=config,
        dataset=grown,
        base=base,
        embeddings=new_texts,
        item_vectors=known.item_vectors,
        feature_data=known.feature_data,
    ).outputs["update"]
    fresh = update_store(config=config, update=update, feature_data=known.feature_data, store=known.store).outputs[
        "fresh"
    ]

    judged = judge_refresh(
        config=config,
        version=model.outputs["Output"],
        dataset=grown,
        base=base,
        split=parts,
        embeddings=new_texts,
        item_vectors=known.item_vectors,
        feature_data=known.feature_data,
        bundle=model.outputs["bundle"],
    ).set_caching_options(False)
    with dsl.If(judged.outputs["retrain"] == True, name="retrain"):  # noqa: E712  (kfp compares lazily)
        training(config=judged.outputs["grown_config"], strategy=strategy, second_strategy=second_strategy, serve=serve)
    with dsl.Else(name="keep"), dsl.If(serve == True, name="serve-fresh-features"):  # noqa: E712
        deploy(
            config=config,
            version=model.outputs["Output"],
            promoted=True,
            bundle=model.outputs["bundle"],
            store=fresh,
        )
