"""Race the portfolio on a data set's validation rows, and write down who won and what every loser reached."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lorefuse.auto.choice_file import CHOICE_FILE, asked_digest
from lorefuse.auto.portfolio import TABLES, Configuration, entries
from lorefuse.auto.profile import Profile, profile
from lorefuse.auto.race import FAILED, LEFT_OUT, NOT_TRIED, Budget, Outcome, Rung, race, winner
from lorefuse.auto.sequence import VIEW
from lorefuse.auto.trial import SPENT, RaceTask, run_trial
from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import sha256_json, write_json
from lorefuse.core.errors import DataError, LorefuseError
from lorefuse.core.progress import track
from lorefuse.core.schema import Split
from lorefuse.data.dataset import Dataset

MAX_ROWS = 600_000
"""Train and validation rows in the race, negatives counted; of more data, users are sampled."""
FIRST_ROWS = 20_000
"""Train rows on the first rung, or an eighth of them where that is more."""
SEQUENCE_SHARE = 0.25
"""Of the budget that must be left to ask whether the order of likes pays: the cost of that is known only afterwards."""
SMALL_ROWS = 30_000
"""Train rows up to which a training takes less time than starting a process."""


@dataclass(frozen=True)
class Vectors:
    """How a race gets the vectors of a configuration: by the pipeline's own steps, which later find them finished.

    Attributes:
        texts: Folder of full text vectors of a configuration.
        items: Folder of its item vectors.
    """

    texts: Callable[[PipelineConfig], Path]
    items: Callable[[PipelineConfig], Path]


def choose(
    dataset_path: Path, split_path: Path, config: PipelineConfig, vectors: Vectors, out_path: Path
) -> dict[str, Any]:
    """Run the race and write `choice.json`; validation rows choose, test rows are not read.

    Args:
        dataset_path: The dataset.
        split_path: Parts of its rows.
        config: The preset; `auto` is its budget, and what is not raced.
        vectors: Where the vectors of a configuration come from.
        out_path: Empty folder to fill.

    Returns:
        The winner's name, how many were tried, its score, and `config`: the winner as a plain dict.

    Raises:
        DataError: Every configuration failed.
    """
    assert config.auto is not None
    budget = Budget(config.auto.budget_s)
    facts = profile(Dataset.open(dataset_path), split_path, config.embedding.prompt)
    raced = entries(config, facts)
    with tempfile.TemporaryDirectory() as folder:
        trainings = _Trainings(dataset_path, split_path, raced, budget, vectors, Path(folder), config.auto.seed)
        rungs = trainings.run()
        found = winner(rungs)
        name = _untried(raced, rungs) if found is None else found[0].name
        chosen = trainings.configs[name]
        is_open = not {"candidates.views", "candidates.weights"} & set(config.auto.fixed)
        sequence = trainings.sequence(name) if is_open else None
    if sequence is not None and sequence["taken"]:
        candidates = chosen.candidates.model_copy(update={"views": (*chosen.candidates.views, VIEW)})
        chosen = chosen.model_copy(update={"candidates": candidates})
    content = _content(config, facts, raced, rungs, name, budget)
    content |= {"sequence": sequence, "config": chosen.as_preset()}
    write_json(out_path / CHOICE_FILE, content)
    return headline(content)


def headline(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a step's line says about a choice."""
    tried = [one for one in content["configurations"] if any(entry["state"] == "done" for entry in one["rungs"])]
    said = {"chosen": content["chosen"], "tried": f"{len(tried)} of {len(content['configurations'])}"}
    if content["score"] is not None:
        said["score"] = round(content["score"], 4)
    if content["sequence"] is not None:
        said["sequence"] = "taken" if content["sequence"]["taken"] else "left out"
    return said


class _Trainings:
    """The rows that configurations need, made when they are needed, and the trainings on them."""

    def __init__(
        self,
        dataset_path: Path,
        split_path: Path,
        raced: Sequence[tuple[Configuration, PipelineConfig]],
        budget: Budget,
        vectors: Vectors,
        folder_path: Path,
        seed: int,
    ) -> None:
        self.dataset_path, self.split_path, self.folder_path = dataset_path, split_path, folder_path
        self.budget, self.vectors, self.seed = budget, vectors, seed
        self.configs = {one.name: made for one, made in raced}
        self.made: dict[str, Path | str] = {}

    def run(self) -> list[Rung]:
        """Return the rungs of the race."""
        from lorefuse.training.pool import load_training_set, num_learners

        names, num_train, num_workers = list(self.configs), 0, 1
        for name in names:  # the first whose rows can be made says how many there are
            rows = self.rows(name)
            if isinstance(rows, Path):
                num_train = len(load_training_set(str(rows)).rows_of(Split.TRAIN))
                num_workers = num_learners(rows)
                break
        self.num_workers = 1 if num_train <= SMALL_ROWS else num_workers
        first_share = min(1.0, max(1 / 8, FIRST_ROWS / max(num_train, 1)))
        return race(names, self.train, self.budget, first_share=first_share, num_workers=self.num_workers)

    def train(self, names: Sequence[str], share: float) -> list[Outcome]:
        """Return what became of some configurations on a share of the users."""
        from lorefuse.training.pool import run_parallel

        outcomes: dict[str, Outcome] = {}
        tasks = []
        for name in names:
            if self.budget.left_s <= 0:
                outcomes[name] = Outcome(name, NOT_TRIED, error=SPENT)
                continue
            if self._key(self.configs[name]) not in self.made and self.budget.left_s < self.budget.total_s / 2:
                outcomes[name] = Outcome(name, LEFT_OUT, error="half of the budget was spent before its rows were made")
                continue
            rows = self.rows(name)
            if isinstance(rows, str):
                outcomes[name] = Outcome(name, FAILED, error=rows)
                continue
            deadline_s = self.budget.deadline_s
            tasks.append(RaceTask(name, str(rows), self.configs[name], share, self.seed, deadline_s))
        try:
            results = run_parallel(run_trial, tasks, self.num_workers)
            for outcome in track(results, f"Racing on {share:.0%} of the users", total=len(tasks)):
                outcomes[outcome.name] = outcome
        except LorefuseError as error:  # a process died; what was not handed back by then is lost
            for task in tasks:
                outcomes.setdefault(task.name, Outcome(task.name, FAILED, error=str(error)))
        return [outcomes[name] for name in names]

    def rows(self, name: str) -> Path | str:
        """Return the folder of a configuration's rows, or what went wrong when they were made."""
        config = self.configs[name]
        key = self._key(config)
        if key not in self.made:
            try:
                self.made[key] = self._make(config, self.folder_path / key[:16])
            except (LorefuseError, ValueError, MemoryError) as error:
                self.made[key] = f"{type(error).__name__}: {error}"[:300]
        return self.made[key]

    def _key(self, config: PipelineConfig) -> str:
        return sha256_json([config.embedding.model_dump(mode="json"), config.features.model_dump(mode="json")])

    def _make(self, config: PipelineConfig, rows_path: Path) -> Path:
        from lorefuse.auto.rows import race_rows
        from lorefuse.training_set.vectors import ItemVectors

        vectors = ItemVectors.load(self.vectors.items(config))
        dataset = Dataset.open(self.dataset_path)
        rows_path.mkdir()
        race_rows(dataset, self.split_path, vectors, config, MAX_ROWS, self.seed).save(rows_path)
        return rows_path

    def sequence(self, name: str) -> dict[str, Any] | None:
        """Say whether a view of the order of likes pays; None where the preset says so itself."""
        from lorefuse.auto.sequence import SequenceTask, try_sequence
        from lorefuse.training.pool import run_parallel

        config, rows = self.configs[name], self.made.get(self._key(self.configs[name]))
        if self.budget.left_s < SEQUENCE_SHARE * self.budget.total_s:
            return {"taken": False, "why": "not tried: too little of the budget was left"}
        if not isinstance(rows, Path):
            return {"taken": False, "why": "not tried: the configuration has no rows"}
        try:
            task = SequenceTask(str(rows), str(self.vectors.texts(config)), config, self.seed)
            return next(iter(track(run_parallel(try_sequence, [task], 1), "Trying the order of likes", total=1)))
        except (LorefuseError, ValueError, RuntimeError, MemoryError) as error:
            return {"taken": False, "why": f"failed: {type(error).__name__}: {error}"[:300]}


def _untried(raced: Sequence[tuple[Configuration, PipelineConfig]], rungs: Sequence[Rung]) -> str:
    """Return the best suited configuration where the budget was too small to try one.

    Raises:
        DataError: All were tried, and failed.
    """
    outcomes = rungs[0].outcomes
    if all(one.state == FAILED for one in outcomes):
        raise DataError(
            "No configuration of the portfolio could be trained.",
            expected="at least one",
            got="; ".join(f"{one.name}: {one.error}" for one in outcomes[:2]),
            fix="mend what it says, or name a model: `model: {family: deepfm}`",
        )
    failed = {one.name for one in outcomes if one.state == FAILED}
    return next(one.name for one, _ in raced if one.name not in failed)


def _content(
    config: PipelineConfig,
    facts: Profile,
    raced: Sequence[tuple[Configuration, PipelineConfig]],
    rungs: Sequence[Rung],
    name: str,
    budget: Budget,
) -> dict[str, Any]:
    assert config.auto is not None
    found = winner(rungs)
    why = "none could be tried within the budget: the one that suits the data best by its profile"
    if found is not None:
        rung = found[1]
        why = f"best of {len(rung.ranked)} on the validation rows of {rung.share:.0%} of the users"
    return {
        "asked": asked_digest(config),
        "auto": config.auto.model_dump(mode="json"),
        "chosen": name,
        "why": why,
        "score": None if found is None else found[0].score,
        "elapsed_s": round(budget.spent_s, 1),
        "profile": asdict(facts),
        "configurations": [
            {
                "name": one.name,
                "about": one.about,
                "evidence": f"{TABLES} {one.evidence}",
                "settings": dict(one.settings),
                "rungs": [
                    {"share": rung.share, **_entry(outcome)}
                    for rung in rungs
                    for outcome in rung.outcomes
                    if outcome.name == one.name
                ],
            }
            for one, _ in raced
        ],
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    from lorefuse.training.summary import without_nan

    content: dict[str, Any] = without_nan(asdict(replace(outcome, train_s=round(outcome.train_s, 2))))
    del content["name"]
    return content
