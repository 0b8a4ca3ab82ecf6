"""Steps from a training set to a judged model and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorefuse.config import Arm, parse_config
from lorefuse.core.atomic import atomic_file, sha256_file, sha256_json
from lorefuse.core.log import reported
from lorefuse.core.schema import SECOND_STRATEGY
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, code_digest, origin, read_digest, reuse_or_build
from lorefuse.steps.common import Config, Folder, origins

_LEARNING = ("features", "models", "training", "tuning")


@reported
def tune(config: Config, arm: str, training_set: Folder) -> StepResult:
    """Training set → hyper-parameters of one arm."""
    pipeline = parse_config(config)
    paths = origins(training_set=training_set)
    sections = ("data", "features", "model", "training", "tuning")
    key = {"arm": arm, **{name: getattr(pipeline, name).model_dump(mode="json") for name in sections}}
    address = sha256_json([key, read_digest(paths["training_set"]), code_digest(*_LEARNING)])
    studies = pipeline.tuning.studies_path
    if studies is not None:
        return _adopt(studies, arm)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.journal import DatabaseJournal, FileJournal
        from lorefuse.tuning.study import tune as run

        url = settings().tuning_storage_url
        on_disk = FileJournal(settings().cache_path / "journals" / f"{address[:24]}.json")
        journal = DatabaseJournal(url, f"{pipeline.name}-{arm}-{address[:24]}") if url else on_disk
        return run(paths["training_set"], pipeline, arm, out_path, journal)

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
    config: Config, training_set: Folder, study: Folder, control: Folder, second_training_set: Folder | None = None
) -> StepResult:
    """Arms × seeds → metrics with controls, and the ranker that will be registered."""
    pipeline = parse_config(config)
    paths = origins(training_set=training_set, study=study, control=control)
    if second_training_set is not None:
        paths["second_training_set"] = origin(Path(second_training_set))

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.training.evaluate import run_arms
        from lorefuse.tuning.study import read_study

        studies = {"real": read_study(paths["study"]), "none": read_study(paths["control"])}
        first = pipeline.split.strategy
        second = SECOND_STRATEGY[first]
        sets = {first: paths["training_set"]} | (
            {second: paths["second_training_set"]} if "second_training_set" in paths else {}
        )
        best = {arm: study["best_params"] for arm, study in studies.items()}
        trials = {arm: study["trials"] for arm, study in studies.items()}
        return run_arms(sets, best, trials, pipeline, out_path)

    sections = ("data", "split", "features", "model", "training", "evaluation")
    key = {name: getattr(pipeline, name).model_dump(mode="json") for name in sections}
    return reuse_or_build("evaluate", config=key, inputs=paths, rooms=_LEARNING, build=build)


@reported
def lists(config: Config, embeddings: Folder, training_set: Folder, evaluation: Folder) -> StepResult:
    """Trained rankers → candidates, what orders them, and what the list that users see is worth.

    The figures are also copied to `<home>/lists.json`, for `lorefuse lists`.
    """
    pipeline = parse_config(config)
    paths = origins(embeddings=embeddings, training_set=training_set, evaluation=evaluation)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.lists.run import run_lists
        from lorefuse.training.evaluate import ranker_path

        rankers = {arm: ranker_path(paths["evaluation"], arm) for arm in pipeline.evaluation.arms}
        return run_lists(paths["training_set"], rankers, paths["embeddings"], pipeline, out_path)

    sections = ("candidates", "retrieval", "embedding", "features", "evaluation", "training", "serving")
    key = {name: getattr(pipeline, name).model_dump(mode="json") for name in sections}
    rooms = (*_LEARNING, "retrieval", "lists")
    result = reuse_or_build("lists", config=key, inputs=paths, rooms=rooms, build=build)
    judged_path, shown_path = result.path / "lists.json", settings().home_path / "lists.json"
    if judged_path.is_file():
        with atomic_file(shown_path) as draft_path:
            draft_path.write_bytes(judged_path.read_bytes())
    else:
        shown_path.unlink(missing_ok=True)
    return result


@reported
def report(
    config: Config,
    dataset: Folder,
    split: Folder,
    item_vectors: Folder,
    evaluation: Folder,
    lists: Folder,
    choice: Folder | None = None,
) -> StepResult:
    """Evaluation, lists and the race that chose → HTML report; also copied to `<home>/report.html`."""
    pipeline = parse_config(config)
    paths = origins(dataset=dataset, split=split, item_vectors=item_vectors, evaluation=evaluation, lists=lists)
    if choice is not None:
        paths["choice"] = origin(Path(choice))

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.report.build import build_report

        facts = build_report(
            paths["evaluation"],
            paths["dataset"],
            paths["split"],
            pipeline,
            out_path,
            item_vectors_path=paths["item_vectors"],
            lists_path=paths["lists"],
            choice_path=paths.get("choice"),
        )
        return {"num_figures": facts["num_figures"], "verdict": facts["verdict"]}

    key = pipeline.model_dump(mode="json")
    result = reuse_or_build("report", config=key, inputs=paths, rooms=("report",), build=build)
    with atomic_file(settings().home_path / "report.html") as draft_path:
        draft_path.write_bytes((result.path / "report.html").read_bytes())
    return result
