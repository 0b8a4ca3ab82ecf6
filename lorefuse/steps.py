"""Every step of the pipeline as a function of folders: what the components call, and anyone without kfp may.

Each takes the configuration as a plain dict and the folders of earlier steps, and returns a finished step that is
reused where nothing it depends on has changed. Imports are inside, so that a reused step costs no heavy import.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lorefuse.atomic import atomic_file, sha256_file, sha256_json
from lorefuse.config import Arm, FileSource, PipelineConfig, parse_config
from lorefuse.config.knowledge import REDUCTION_FIELDS
from lorefuse.contract import SECOND_STRATEGY
from lorefuse.embedding.source import resolve
from lorefuse.errors import ConfigError
from lorefuse.log import reported, say
from lorefuse.settings import settings
from lorefuse.workspace import StepResult, code_digest, origin, read_digest, reuse_or_build

Config = dict[str, Any]
Folder = str | Path


def _paths(**folders: Folder) -> dict[str, Path]:
    return {name: origin(Path(folder)) for name, folder in folders.items()}


@reported
def ingest(config: Config) -> StepResult:
    """Raw files → dataset folder."""
    pipeline = parse_config(config)
    from lorefuse.data.sources import local_digests

    files = local_digests(pipeline.data)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.ingest import ingest as run

        manifest = run(pipeline.data, out_path)
        return {**manifest["counts"], "quarantined": sum(manifest["quarantined"].values())}

    key = {"data": pipeline.data.model_dump(mode="json"), "files": files}
    return reuse_or_build("ingest", config=key, inputs={}, rooms=("data", "knowledge"), build=build)


@reported
def embed(config: Config, dataset: Folder) -> StepResult:
    """Dataset → one text vector per item."""
    embedding = parse_config(config).embedding
    paths = _paths(dataset=dataset)
    written = {column: Path(folder).expanduser() for column, folder in sorted(embedding.written.items())}
    for column, folder in written.items():
        if not folder.is_dir():
            raise ConfigError(f"embedding.written.{column} is no folder.", got=str(folder), fix="lorefuse enrich")

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.embedding.embed import embed_items

        facts = embed_items(Dataset.open(paths["dataset"]), embedding, out_path, written)
        return {name: facts[name] for name in ("dim", "num_cached", "num_encoded", "encode_s")}

    # Facets stay in: each is a text of its own to encode.
    apart = {*REDUCTION_FIELDS, "num_threads", "num_shards", "fine_tune"} - {"facets"}
    key: dict[str, Any] = {"embedding": embedding.model_dump(mode="json", exclude=apart)}
    if Path(embedding.encoder).expanduser().is_dir():
        key["revision"] = resolve(embedding).revision  # a folder may hold other weights under its old name
    inputs = paths | {f"written_{column}": folder for column, folder in written.items()}
    return reuse_or_build("embed", config=key, inputs=inputs, rooms=("embedding",), build=build)


@reported
def split(config: Config, strategy: str, dataset: Folder) -> StepResult:
    """Dataset → parts in time, by `per_user_time` or `global_time`."""
    content = {**config.get("split", {}), "strategy": strategy}
    pipeline = parse_config({**config, "split": content})
    parts, negatives = pipeline.split, pipeline.data.negatives
    paths = _paths(dataset=dataset)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.data.split import split as run

        facts = run(Dataset.open(paths["dataset"]), parts, out_path, negatives)
        sampled = {"negatives": facts["num_negatives"]} if "num_negatives" in facts else {}
        return {"strategy": strategy, **facts["counts"], "cold_items": len(facts["held_out_items"]), **sampled}

    key = [parts.model_dump(), negatives.model_dump()]
    return reuse_or_build("split", config=key, inputs=paths, rooms=("data",), build=build)


@reported
def item_vectors(config: Config, dataset: Folder, parts: Folder, embeddings: Folder) -> StepResult:
    """Embeddings and graph → vectors fitted on train items."""
    pipeline = parse_config(config)
    paths = _paths(dataset=dataset, parts=parts, embeddings=embeddings)
    if pipeline.embedding.written_users:
        paths["written_users"] = Path(pipeline.embedding.written_users).expanduser()
        if not paths["written_users"].is_dir():
            got, fix = pipeline.embedding.written_users, "lorefuse enrich --about users"
            raise ConfigError("embedding.written_users is no folder.", got=got, fix=fix)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.knowledge.item_vectors import build_item_vectors

        facts = build_item_vectors(
            Dataset.open(paths["dataset"]),
            paths["parts"],
            paths["embeddings"],
            pipeline.embedding,
            pipeline.knowledge,
            out_path,
        )
        return {**{name: facts[name] for name in ("text_dim", "graph_dim", "graph")}, **facts["users"]}

    key = [pipeline.embedding.model_dump(mode="json", include=set(REDUCTION_FIELDS)), pipeline.knowledge.model_dump()]
    rooms = ("knowledge", "embedding", *(["enrich"] if pipeline.embedding.written_users else []))
    return reuse_or_build("item_vectors", config=key, inputs=paths, rooms=rooms, build=build)


@reported
def features(config: Config, dataset: Folder, parts: Folder, vectors: Folder) -> StepResult:
    """Train rows → feature data."""
    pipeline = parse_config(config)
    paths = _paths(dataset=dataset, parts=parts, vectors=vectors)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.features.build import build_feature_data
        from lorefuse.knowledge.item_vectors import ItemVectors

        loaded = ItemVectors.load(paths["vectors"])
        return build_feature_data(Dataset.open(paths["dataset"]), paths["parts"], loaded, pipeline, out_path)

    key = [pipeline.features.model_dump(), pipeline.data.label.model_dump()]
    return reuse_or_build("features", config=key, inputs=paths, rooms=("features",), build=build)


@reported
def materialize(config: Config, feature_data: Folder) -> StepResult:
    """Feature data → Feast registry and online store."""
    parse_config(config)
    paths = _paths(feature_data=feature_data)
    repo_path = settings().project_path / "feature_repo"
    definitions = {file.name: sha256_file(file) for file in sorted(repo_path.glob("*.py"))}
    servers = bool(settings().online_store_url)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.features.store import apply_and_materialize

        return apply_and_materialize(paths["feature_data"], out_path)

    key = [definitions, servers]
    result = reuse_or_build("materialize", config=key, inputs=paths, rooms=("features",), build=build)
    if servers and result.reused:
        from lorefuse.features.store import ensure_filled

        refilled = ensure_filled(paths["feature_data"], result.path)  # servers forget what files do not
        return replace(result, reused=not refilled, summary={**result.summary, "refilled": refilled})
    return result


@reported
def training_set(
    config: Config, dataset: Folder, parts: Folder, vectors: Folder, feature_data: Folder, store: Folder
) -> StepResult:
    """Feature store → training set, joined point in time."""
    parse_config(config)
    paths = _paths(dataset=dataset, parts=parts, vectors=vectors, feature_data=feature_data, store=store)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.data.dataset import Dataset
        from lorefuse.features.store import retrieve_training_set
        from lorefuse.knowledge.item_vectors import ItemVectors

        return retrieve_training_set(
            Dataset.open(paths["dataset"]),
            paths["parts"],
            ItemVectors.load(paths["vectors"]),
            paths["feature_data"],
            paths["store"],
            out_path,
        )

    return reuse_or_build("training_set", config=None, inputs=paths, rooms=("features",), build=build)


_LEARNING = ("features", "models", "training", "tuning")


@reported
def tune(config: Config, arm: str, rows: Folder) -> StepResult:
    """Training set → hyper-parameters of one arm."""
    pipeline = parse_config(config)
    paths = _paths(rows=rows)
    sections = ("data", "features", "model", "training", "tuning")
    key = {"arm": arm, **{name: getattr(pipeline, name).model_dump(mode="json") for name in sections}}
    address = sha256_json([key, read_digest(paths["rows"]), code_digest(*_LEARNING)])
    journal = settings().cache_path / "journals" / f"{address[:24]}.json"

    studies = pipeline.tuning.studies_path
    if studies is not None:
        return _adopt(studies, cast(Arm, arm))

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.study import tune as run

        return run(paths["rows"], pipeline, cast(Arm, arm), out_path, journal)

    return reuse_or_build("tune", config=key, inputs=paths, rooms=_LEARNING, build=build)


def _adopt(studies_path: Path, arm: Arm) -> StepResult:
    """Studies that `lorefuse tune` made in place of a search."""

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.study import adopt_study

        return adopt_study(studies_path, arm, out_path)

    study = studies_path / arm / "study.json"
    key = {"arm": arm, "study": sha256_file(study) if study.is_file() else None}
    return reuse_or_build("tune", config=key, inputs={}, rooms=("tuning",), build=build)


@reported
def evaluate(
    config: Config, rows: Folder, study: Folder, control: Folder, second_rows: Folder | None = None
) -> StepResult:
    """Arms × seeds → metrics with controls, and the ranker that will be registered."""
    pipeline = parse_config(config)
    paths = _paths(rows=rows, study=study, control=control)
    if second_rows is not None:
        paths["second_rows"] = origin(Path(second_rows))

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.training.evaluate import run_arms
        from lorefuse.tuning.study import read_study

        studies = {"real": read_study(paths["study"]), "none": read_study(paths["control"])}
        first = pipeline.split.strategy
        second = SECOND_STRATEGY[first]
        sets = {first: paths["rows"]} | ({second: paths["second_rows"]} if "second_rows" in paths else {})
        best = {arm: study["best_params"] for arm, study in studies.items()}
        trials = {arm: study["trials"] for arm, study in studies.items()}
        return run_arms(sets, best, trials, pipeline, out_path)

    sections = ("data", "split", "features", "model", "training", "evaluation")
    key = {name: getattr(pipeline, name).model_dump(mode="json") for name in sections}
    return reuse_or_build("evaluate", config=key, inputs=paths, rooms=_LEARNING, build=build)


@reported
def bundle(
    config: Config,
    dataset: Folder,
    embeddings: Folder,
    vectors: Folder,
    feature_data: Folder,
    rows: Folder,
    evaluation: Folder,
) -> StepResult:
    """Trained ranker → everything a model version carries, exported to ONNX and held to torch."""
    pipeline = parse_config(config)
    paths = _paths(
        dataset=dataset,
        embeddings=embeddings,
        vectors=vectors,
        feature_data=feature_data,
        rows=rows,
        evaluation=evaluation,
    )

    def build(out_path: Path) -> dict[str, Any]:
        import json

        from lorefuse.export.bundle import write_bundle
        from lorefuse.features.training_set import TrainingSet
        from lorefuse.models.build import load_ranker
        from lorefuse.training.evaluate import RANKER_FOLDER
        from lorefuse.training.params import apply

        metrics = json.loads((paths["evaluation"] / "metrics.json").read_text("utf-8"))
        model, training = apply(pipeline, metrics["best_params"]["real"])
        return write_bundle(
            load_ranker(paths["evaluation"] / RANKER_FOLDER),
            TrainingSet.load(paths["rows"]),
            pipeline.model_copy(update={"model": model, "training": training}),
            paths["feature_data"],
            paths["vectors"],
            paths["embeddings"],
            paths["dataset"],
            metrics,
            out_path,
        )

    key = pipeline.model_dump(mode="json")
    rooms = ("features", "models", "retrieval", "export")
    return reuse_or_build("bundle", config=key, inputs=paths, rooms=rooms, build=build)


@reported
def report(config: Config, dataset: Folder, parts: Folder, vectors: Folder, evaluation: Folder) -> StepResult:
    """Evaluation → HTML report; also copied to `<home>/report.html`."""
    pipeline = parse_config(config)
    paths = _paths(dataset=dataset, parts=parts, vectors=vectors, evaluation=evaluation)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.report.build import build_report

        facts = build_report(
            paths["evaluation"],
            paths["dataset"],
            paths["parts"],
            pipeline,
            out_path,
            item_vectors_path=paths["vectors"],
        )
        return {"num_figures": facts["num_figures"], "verdict": facts["verdict"]}

    key = pipeline.model_dump(mode="json")
    result = reuse_or_build("report", config=key, inputs=paths, rooms=("report",), build=build)
    with atomic_file(settings().home_path / "report.html") as draft_path:
        draft_path.write_bytes((result.path / "report.html").read_bytes())
    return result


@reported
def register(
    config: Config,
    dataset: Folder,
    parts: Folder,
    rows: Folder,
    evaluation: Folder,
    bundle: Folder,
    report: Folder,
    store: Folder,
) -> dict[str, Any]:
    """Bundle → model version with the alias `challenger`; the gate may make it `champion`."""
    import time

    from lorefuse.registry.gate import gate
    from lorefuse.registry.run import register as run

    start_s = time.perf_counter()
    pipeline = parse_config(config)
    paths = _paths(
        dataset=dataset, parts=parts, rows=rows, evaluation=evaluation, bundle=bundle, report=report, store=store
    )
    entry = run(
        paths["bundle"],
        paths["evaluation"],
        paths["report"] / "report.html",
        pipeline,
        dataset_path=paths["dataset"],
        split_path=paths["parts"],
        store_path=paths["store"],
    )
    decision = gate(pipeline, entry["version"], paths["evaluation"], training_set_path=paths["rows"])
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
    paths = _paths(bundle=bundle, store=store)
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
    from lorefuse.failure import report_failure as run

    facts = run(pipeline, run_name, run_id, state, message)
    say("step", step="report_failure", reused=False, elapsed_s=0.0, summary=facts)
    return facts


def dump_config(config: PipelineConfig) -> Config:
    """Return the configuration as a pipeline parameter: plain JSON without nulls, which kfp cannot carry."""
    content: Config = config.model_dump(mode="json", exclude_none=True)
    source = config.data.source
    if isinstance(source, FileSource) and source.value is None:
        content["data"]["source"]["value"] = ""  # left out it would become the default, a column
    return content
