"""Fit and judge the served list of every arm: is it the best list, and is it knowledge that makes it so?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, load_npz, save_npz

from lorefuse.config import Arm, PipelineConfig
from lorefuse.config.candidates import CandidatesConfig
from lorefuse.config.learning import ONLY
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import TEXT, Split
from lorefuse.features.vocabulary import load_user_values
from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
from lorefuse.lists.groups import group_figures
from lorefuse.lists.judge import Lists, compare, make_lists, user_values
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.lessons import NUM_FOLDS, Lessons, make_lessons, of_others
from lorefuse.lists.moments import Moments, moments_of
from lorefuse.lists.order import IDENTITY, NUM_WEIGHED_USERS, RANKER, look, ordered_by, put_in_order, ranked_ndcg
from lorefuse.lists.readers import make_readers, with_encoded
from lorefuse.lists.stage_files import (
    LIST_RANKER_FOLDER,
    LIST_VALUES_FILE,
    LISTS_FILE,
    SERVED,
    WITH_RANKER,
    WITHOUT_RANKER,
    save_stages,
)
from lorefuse.lists.tables import collaborative_tables
from lorefuse.training.pool import load_training_set, num_learners, run_parallel
from lorefuse.training.summary import first_seed, without_nan
from lorefuse.training_set.arrays import TrainingSet

if TYPE_CHECKING:
    from lorefuse.models.ranker import Ranker

NUM_EVALUATED = 20
MAPPED_TEXT = "mapped text"
MAX_JUDGED_SCORES, MIN_JUDGED_USERS = 1_000_000_000, 1000
"""Most scores of a simple recommender's lists, and the users that are judged whatever that takes."""
ORDERS = {RANKER: "blend and ranker", IDENTITY: "blend"}
"""What puts a served list in order, in words."""


@dataclass(frozen=True)
class ArmTask:
    """A list that is fitted and made.

    Attributes:
        arm: What is known about the items.
        seed: Of the arm's own draws and of the fit.
        rows_path: Training set, with the real knowledge.
        ranker_path: The arm's trained ranker.
        embeddings_path: Full text vectors of the items.
        tables_path: From `save_tables`.
        config: What is fitted.
    """

    arm: Arm
    seed: int
    rows_path: str
    ranker_path: str
    embeddings_path: str
    tables_path: str
    config: PipelineConfig


def wants_candidates(training_set: TrainingSet, threshold: float, config: PipelineConfig) -> bool:
    """Tell whether a blend is to be fitted: where it is asked for, or where nothing rules it out.

    Without a like in each part there is no list to learn or to judge; where an index is asked for, it searches. A
    ranker that was trained with differential privacy is not put behind tables of who took what, which have none.
    """
    if config.candidates.mode != "auto":
        return config.candidates.mode == "blend"
    if config.training.privacy is not None:  # the guarantee is for the ranker alone, so it orders the whole catalogue
        return False
    parts = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    has_likes = all((training_set.label[training_set.rows_of(part)] >= threshold).any() for part in parts)
    return has_likes and config.serving.retrieval.mode != "ann"


def like_threshold(training_set: TrainingSet) -> float:
    """Return the label from which a row is a like: 0.5, or the train mean of a regression."""
    if training_set.spec.label_kind == "binary":
        return 0.5
    return float(training_set.label[training_set.rows_of(Split.TRAIN)].mean(dtype=np.float64))


def run_lists(
    rows_path: Path, ranker_paths: Mapping[Arm, Path], embeddings_path: Path, config: PipelineConfig, out_path: Path
) -> dict[str, Any]:
    """Fit both stages of each arm, judge their lists on test users, and write the lists folder.

    Validation users choose everything; test users are shown each list once.

    Args:
        rows_path: Training set.
        ranker_paths: The trained ranker of each arm, ``real`` among them.
        embeddings_path: Full text vectors of the items.
        config: What is fitted, and how it is judged.
        out_path: Empty folder to fill, see `stage_files`; empty it stays where `candidates.mode` or the data rule a
            candidate stage out.

    Returns:
        NDCG@10 of the served list, of the simple ones and of the other arms.
    """
    training_set = load_training_set(str(rows_path))
    threshold = like_threshold(training_set)
    if not wants_candidates(training_set, threshold, config):
        return {"mode": "none"}
    with tempfile.TemporaryDirectory() as folder:
        save_tables(training_set, config, Path(folder))
        seed = first_seed(config)
        tasks = [
            ArmTask(arm, seed, str(rows_path), str(path), str(embeddings_path), folder, config)
            for arm, path in ranker_paths.items()
        ]
        results = dict(zip(ranker_paths, run_parallel(run_arm, tasks, num_learners(rows_path)), strict=True))
    test, facts = judged_moments(training_set, config), results["real"]["fitted"].facts
    simple, settings = make_simple_lists(training_set, test, config)
    lists: dict[str, Lists] = {SERVED: results["real"]["lists"], **results["real"]["other"], **simple}
    lists |= {arm: result["lists"] for arm, result in results.items() if arm != "real"}
    settings[SERVED] = ORDERS[facts["ordered_by"]]
    section, num_bootstraps = config.retrieval, config.evaluation.num_bootstraps
    content = compare({name: [one] for name, one in lists.items()}, test, section.k, section.recall_k, num_bootstraps)
    content |= {"settings": settings, "facts": facts}
    sizes = {"k": section.k, "recall_k": section.recall_k, "num_bootstraps": num_bootstraps}
    content["groups"] = group_figures(lists, SERVED, test, training_set, load_user_values(rows_path), **sizes)
    save_stages(results["real"]["fitted"], out_path)
    if facts["ordered_by"] == RANKER:
        _save_ranker(results["real"]["ranker"], ranker_paths["real"], out_path / LIST_RANKER_FOLDER)
    for name, module in results["real"]["encoders"].items():
        from lorefuse.lists.encoders import save_encoder

        save_encoder(name, module, out_path)
    write_json(out_path / LISTS_FILE, without_nan(content))
    _write_values(lists[SERVED], test, config, out_path)
    return headline(content)


def save_tables(training_set: TrainingSet, config: PipelineConfig, folder_path: Path) -> None:
    """Fit the tables of who took both, the same for all arms, and write each as ``all/<name>.npz``.

    Where a ranker may learn from lists, also those without each fold of users, ``fold_<number>/<name>.npz``.
    """
    taken_UN, section = taken_in_train(training_set), config.candidates
    _save_tables(collaborative_tables(taken_UN, section), folder_path / "all")
    for fold in range(NUM_FOLDS) if section.ranker in ("auto", "list") else ():
        _save_tables(collaborative_tables(of_others(taken_UN, fold), section), folder_path / f"fold_{fold}")


def run_arm(task: ArmTask) -> dict[str, Any]:
    """Fit both stages of an arm and make the lists of test users.

    Returns:
        ``lists``, (U, `list_length`); of the real arm also ``fitted``, the stages, ``ranker``, the second one or None,
        ``other``, by name the lists with the other order of the candidates, and ``encoders``, by name what reads likes
        in their order.
    """
    from lorefuse.lists.ranking import TorchRanking
    from lorefuse.training.train import arm_set

    config, section = task.config, task.config.candidates
    whole = load_training_set(task.rows_path)
    seed = task.seed
    training_set = arm_set(whole, task.arm, config, seed)
    taken_UN = taken_in_train(training_set)
    collaborative = _load_tables(Path(task.tables_path) / "all")
    blocks = knowledge_blocks(training_set, task.arm, Path(task.embeddings_path), config, seed)
    knowledge = ItemKnowledge.of(taken_UN, blocks, section)
    tables = make_tables(collaborative, knowledge, section)
    num_returned = min(config.serving.max_k, len(training_set.item_fields))
    threshold = like_threshold(whole)
    validation = moments_of(training_set, Split.VALIDATION, section.history_length, threshold)
    validation = validation.thinned(section.num_fit_users)
    test = judged_moments(training_set, config)
    readers = make_readers(training_set, taken_UN, knowledge, config, threshold, seed)
    if task.arm == "real":
        _check_given(section, [*tables, *readers])
    validation, test = (with_encoded(users, readers) for users in (validation, test))
    start = unfitted(tables, taken_UN, section, num_returned, training_set.spec.label_kind, readers)
    blended = fit(start, validation, section, seed)
    weighed = validation.thinned(NUM_WEIGHED_USERS)
    looked = look(blended, weighed)

    def ranked(ranker: Ranker) -> NDArray[np.float32]:
        return TorchRanking(ranker, training_set, weighed).matrix(looked.rows)

    def judge(ranker: Ranker) -> float:
        return ranked_ndcg(looked, weighed, ranked(ranker), training_set.spec.label_kind)

    def lessons() -> Lessons | None:
        folds = [_load_tables(Path(task.tables_path) / f"fold_{fold}") for fold in range(NUM_FOLDS)]
        return make_lessons(blended, training_set, taken_UN, folds, blocks, section, threshold, validation, seed)

    ranker = _second_stage(task, training_set, lessons, judge)
    fitted = put_in_order(blended, looked, weighed, None if ranker is None else ranked(ranker), section)
    ranking = ranker and TorchRanking(ranker, training_set, test)
    length = list_length(config)
    stages = fitted.two_stage()
    result: dict[str, Any] = {"lists": make_lists(stages, test, ranking, length, task.arm)}
    if task.arm == "real":
        encoders = {name: parts.module for name, parts in readers.items() if parts.module is not None}
        result |= {"fitted": fitted, "encoders": encoders, "ranker": ranker, "other": {}}
        for order, name in ((RANKER, WITH_RANKER), (IDENTITY, WITHOUT_RANKER)):
            if order in fitted.facts["orders"] and order != fitted.facts["ordered_by"]:
                other = ordered_by(fitted, order).two_stage()
                result["other"][name] = make_lists(other, test, ranking, length, name)
    return result


def _check_given(section: CandidatesConfig, made: Sequence[str]) -> None:
    """Raise a usage error where a weight is given to a view that this data has no way to make."""
    missing = sorted(set(section.weights or ()) - {*made, "popularity"})
    if missing:
        raise UsageError(
            "candidates.weights gives a weight to views that this data does not allow.",
            expected="texts or a graph for contents, at most max_ease_items items for ease, and for asked "
            "data.source.context_text",
            got=", ".join(missing),
            fix="take other views, or raise candidates.max_ease_items",
        )


def _second_stage(
    task: ArmTask,
    training_set: TrainingSet,
    lessons: Callable[[], Lessons | None],
    judge: Callable[[Ranker], float],
) -> Ranker | None:
    """Return the ranker that may order the candidates, as `candidates.ranker` says; None: the identity."""
    from lorefuse.lists.list_ranker import train_list_ranker
    from lorefuse.models.build import load_ranker, untrained_like

    asked = task.config.candidates.ranker
    if asked == "identity":
        return None
    if asked == "rows":
        return load_ranker(Path(task.ranker_path))
    made = lessons()
    if made is None:
        return None
    ranker, _ = untrained_like(Path(task.ranker_path), seed=task.seed)
    return train_list_ranker(ranker, training_set, made, task.config.training, judge)


def _save_ranker(ranker: Ranker, like_path: Path, folder_path: Path) -> None:
    from lorefuse.models.build import save_ranker, untrained_like

    folder_path.mkdir()
    save_ranker(ranker, untrained_like(like_path, seed=0)[1], folder_path)


def _save_tables(tables: Mapping[str, csr_array], folder_path: Path) -> None:
    folder_path.mkdir()
    for name, table in tables.items():
        save_npz(folder_path / f"{name}.npz", table)


def _load_tables(folder_path: Path) -> dict[str, csr_array]:
    return {path.stem: csr_array(load_npz(path)) for path in sorted(folder_path.glob("*.npz"))}


def knowledge_blocks(
    training_set: TrainingSet, arm: Arm, embeddings_path: Path, config: PipelineConfig, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return what an arm knows about the items by block, (N, ·) each; of texts the full vectors.

    What a supervised map makes of the texts stands beside them, as ``mapped text``.

    Args:
        training_set: The arm's own.
        arm: ``shuffled`` is given other items' texts, by the same order as its other vectors.
        embeddings_path: Full text vectors.
        config: Whether texts go through a supervised map.
        seed: Of the arm.
    """
    from safetensors.numpy import load_file

    known, blocks = dict(training_set.knowledge), {}
    if TEXT in known and arm in ("real", "shuffled", TEXT + ONLY):
        full = load_file(str(embeddings_path / "item_embeddings.safetensors"))["full"].astype(np.float32)
        if arm == "shuffled":
            full = full[np.random.default_rng(1000 + seed).permutation(len(full))]
        blocks[TEXT], mapped = full, known.pop(TEXT)
        if config.embedding.reducer == "supervised":
            blocks[MAPPED_TEXT] = mapped
    return blocks | known


def judged_moments(training_set: TrainingSet, config: PipelineConfig) -> Moments:
    """Return the test users whose lists are judged, at the beginning of the test part.

    Simple recommenders score whole catalogues: the larger one is, the fewer users are enough for minutes of it.
    """
    section, num_items = config.candidates, len(training_set.item_fields)
    moments = moments_of(training_set, Split.TEST, section.history_length, like_threshold(training_set))
    return moments.thinned(min(section.num_judged_users, max(MIN_JUDGED_USERS, MAX_JUDGED_SCORES // num_items)))


def list_length(config: PipelineConfig) -> int:
    """Return how many ranks of a list are judged."""
    return max(NUM_EVALUATED, config.retrieval.k, config.retrieval.recall_k)


def make_simple_lists(
    training_set: TrainingSet, test: Moments, config: PipelineConfig
) -> tuple[dict[str, Lists], dict[str, str]]:
    """Return the lists of the simple recommenders, and the settings that validation chose for each."""
    from lorefuse.lists.simple import simple_lists

    lists, settings = {}, {}
    found = simple_lists(training_set, test.users, config, like_threshold(training_set), list_length(config))
    for name, shown, text in found:
        lists[name], settings[name] = shown, text
    return lists, settings


def _write_values(shown: Lists, test: Moments, config: PipelineConfig, out_path: Path) -> None:
    import pandas as pd

    values = user_values(shown, test, config.retrieval.k, config.retrieval.recall_k)
    frame = pd.DataFrame({"user_row": test.users, **values, "list": list(shown)})
    frame.to_parquet(out_path / LIST_VALUES_FILE, index=False)


def headline(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return NDCG of known and new items by list, and the verdict on knowledge."""
    names = [f"ndcg_at_{content['k']}_{subset}" for subset in ("warm", "cold")]
    lines: dict[str, Any] = {}
    for name, entry in content["lists"].items():
        means = [entry["metrics"][metric]["mean"] for metric in names]
        lines[name] = " / ".join("–" if mean != mean else f"{mean:.4f}" for mean in means)
    return lines | {"verdict": content["verdicts"]}
