"""Steps from a trained ranker to a registered version that answers; and word of a run that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import parse_config
from lorefuse.core.log import reported, say
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins
from lorefuse.steps.leaks import membership


@reported
def bundle(
    config: Config,
    dataset: Folder,
    embeddings: Folder,
    item_vectors: Folder,
    feature_data: Folder,
    training_set: Folder,
    evaluation: Folder,
    lists: Folder,
) -> StepResult:
    """Trained ranker → everything a model version carries, exported to ONNX and checked against torch."""
    pipeline = parse_config(config)
    paths = origins(
        dataset=dataset,
        embeddings=embeddings,
        item_vectors=item_vectors,
        feature_data=feature_data,
        training_set=training_set,
        evaluation=evaluation,
        lists=lists,
    )

    def build(out_path: Path) -> dict[str, Any]:
        import json

        from lorefuse.export.write_bundle import write_bundle
        from lorefuse.models.build import load_ranker
        from lorefuse.training.evaluate import RANKER_FOLDER
        from lorefuse.training.params import apply
        from lorefuse.training_set.arrays import TrainingSet

        metrics = json.loads((paths["evaluation"] / "metrics.json").read_text("utf-8"))
        model, training = apply(pipeline, metrics["best_params"]["real"])
        return write_bundle(
            load_ranker(paths["evaluation"] / RANKER_FOLDER),
            TrainingSet.load(paths["training_set"]),
            pipeline.model_copy(update={"model": model, "training": training}),
            paths["feature_data"],
            paths["item_vectors"],
            paths["embeddings"],
            paths["dataset"],
            metrics,
            out_path,
            paths["lists"],
        )

    key = pipeline.model_dump(mode="json")
    rooms = ("features", "models", "retrieval", "lists", "export")
    return reuse_or_build("bundle", config=key, inputs=paths, rooms=rooms, build=build)


@reported
def register(
    config: Config,
    dataset: Folder,
    split: Folder,
    training_set: Folder,
    evaluation: Folder,
    bundle: Folder,
    report: Folder,
    store: Folder,
    choice: Folder | None = None,
) -> dict[str, Any]:
    """Bundle → model version with the alias `challenger`; the gate may make it `champion`.

    Where `registry.max_membership_auc` bounds what a model may give away, that is measured here, or found measured.
    """
    import time

    from lorefuse.registry.gate import gate
    from lorefuse.registry.run import register as run

    start_s = time.perf_counter()
    pipeline = parse_config(config)
    paths = origins(
        dataset=dataset,
        split=split,
        training_set=training_set,
        evaluation=evaluation,
        bundle=bundle,
        report=report,
        store=store,
    )
    entry = run(
        paths["bundle"],
        paths["evaluation"],
        paths["report"] / "report.html",
        pipeline,
        dataset_path=paths["dataset"],
        split_path=paths["split"],
        store_path=paths["store"],
        choice_path=None if choice is None else Path(choice),
    )
    leaks = None
    if pipeline.registry.max_membership_auc is not None:
        leaks = membership(config, paths["training_set"], paths["evaluation"]).path
    decision = gate(
        pipeline, entry["version"], paths["evaluation"], training_set_path=paths["training_set"], membership_path=leaks
    )
    facts = {"version": entry["version"], "champion": decision.promoted, "gate": decision.reason}
    elapsed_s = round(time.perf_counter() - start_s, 2)
    say("step", step="register", reused=entry["reused"], elapsed_s=elapsed_s, summary=facts)
    return {**entry, "promoted": decision.promoted, "reason": decision.reason}


@reported
def deploy(config: Config, version: str, promoted: bool, bundle: Folder, store: Folder) -> dict[str, Any]:
    """Champion → answers from Triton. A version that is not champion leaves what is served as it is.

    Where a reconciler runs it sees the alias by itself, and tries the version as its configuration says.
    """
    import time

    from lorefuse.deploy.deploy import deploy as run
    from lorefuse.deploy.deploy import up
    from lorefuse.deploy.reconcile import is_running

    start_s = time.perf_counter()
    pipeline = parse_config(config)
    if is_running():
        summary = {"url": settings().triton_url, "left_to": "the reconciler"}
        say("step", step="deploy", reused=False, elapsed_s=0.0, summary=summary)
        return summary
    paths = origins(bundle=bundle, store=store)
    facts = run(paths["bundle"], paths["store"], int(version)) if promoted else up()
    if promoted and facts["previous"] != int(version):
        from lorefuse.registry.deployment import note_live

        note_live(pipeline.registry.model_name, int(version), facts["previous"])
    shown = {name: facts[name] for name in ("url", "version", "latency_ms", "max_score_difference") if name in facts}
    elapsed_s = round(time.perf_counter() - start_s, 2)
    say("step", step="deploy", reused=False, elapsed_s=elapsed_s, summary={**shown, "promoted": promoted})
    return facts


@reported
def report_failure(pipeline: str, run_name: str, run_id: str, state: str, message: str = "") -> dict[str, Any]:
    """End of a run on a cluster → word of its failure, in the log and to a webhook."""
    from lorefuse.core.failure import report_failure as run

    facts = run(pipeline, run_name, run_id, state, message)
    say("step", step="report_failure", reused=False, elapsed_s=0.0, summary=facts)
    return facts
