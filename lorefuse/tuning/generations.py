"""Tuning in generations, with nothing shared but JSON: ask for parameters, run them anywhere, tell the results.

A pipeline asks for N trials, runs them side by side (a ParallelFor over the parameter dicts), and tells what came
out; the study is rebuilt from its records each time, so no database stands behind it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.training.params import defaults
from lorefuse.tuning.space import nearest, suggest
from lorefuse.tuning.study import STUDY_FILE, first_point, make_sampler, tell


def sizes(num_trials: int, num_generations: int) -> list[int]:
    """Return how many trials each generation has: as equal as can be, the first ones larger.

    A generation is never larger than it must be, since trials of one generation cannot learn from each other.
    """
    share, rest = divmod(num_trials, num_generations)
    return [share + (number < rest) for number in range(num_generations)]


def new_study(arm: str = "real") -> str:
    """Return an empty study as JSON."""
    return json.dumps({"arm": arm, "records": []})


def ask(study_json: str, config: PipelineConfig, num_trials: int) -> list[dict[str, Any]]:
    """Return the parameters of the next trials; the first of all is the configuration itself.

    The same study gives the same answer. Trials of one generation know nothing of each other; the sampler counts
    those asked for as bad ones (constant liar), so they differ.

    Args:
        study_json: From `new_study` or `add_results`.
        config: The search space and its seed.
        num_trials: How many.

    Raises:
        ArtifactError: It is no study.
    """
    content = _read(study_json)
    study = _rebuilt(content, config, seed=config.tuning.seed + len(content["records"]))
    if not content["records"]:
        study.enqueue_trial(first_point(config, content["arm"]))
    asked = [suggest(study.ask(), config, content["arm"]) for _ in range(num_trials)]
    if asked and not content["records"] and config.tuning.space == "training":
        asked[0] = defaults(config)  # as configured, even where that lies outside of the search space
    return asked


def add_results(study_json: str, results: list[dict[str, Any]]) -> str:
    """Return the study with finished trials added.

    Args:
        study_json: From `new_study` or an earlier call.
        results: One dict a trial: params, state (COMPLETE, PRUNED, FAIL), value, curve.

    Raises:
        ArtifactError: It is no study, or a result lacks something.
    """
    content = _read(study_json)
    for result in results:
        missing = {"params", "state", "value", "curve"} - set(result)
        if missing:
            raise ArtifactError(
                "A trial's result is not whole.", expected="params, state, value, curve", got=str(result)
            )
        content["records"].append({"number": len(content["records"]), **result})
    return json.dumps(content)


def best(study_json: str) -> dict[str, Any]:
    """Return the record of the best finished trial.

    Raises:
        ArtifactError: None is finished.
    """
    complete = [record for record in _read(study_json)["records"] if record["state"] == "COMPLETE"]
    if not complete:
        raise ArtifactError("The study has no finished trial.", expected="at least one", got="none")
    return copy.deepcopy(max(complete, key=lambda record: (record["value"], -record["number"])))


def save_study(study_json: str, folder_path: Path) -> None:
    """Write `study.json` as `tuning.study.tune` does; without a finished trial it has no best parameters."""
    content = _read(study_json)
    written: dict[str, Any] = {"arm": content["arm"], "trials": content["records"]}
    if any(record["state"] == "COMPLETE" for record in content["records"]):
        record = best(study_json)
        written |= {"best_params": record["params"], "best_value": record["value"]}
    write_json(folder_path / STUDY_FILE, written)


def load_study(folder_path: Path) -> str:
    """Return the study of a folder that `save_study` wrote.

    Raises:
        ArtifactError: It holds none.
    """
    try:
        content = json.loads((folder_path / STUDY_FILE).read_text("utf-8"))
        study_json = json.dumps({"arm": content["arm"], "records": content["trials"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder_path} holds no study.", got=repr(error), fix="lorefuse tune") from None
    _read(study_json)
    return study_json


def _read(study_json: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(study_json)
        if isinstance(content["records"], list) and isinstance(content["arm"], str):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise ArtifactError("This is no study.", expected="JSON with arm and records", got=study_json[:80])


def _rebuilt(content: dict[str, Any], config: PipelineConfig, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(config, seed))
    for record in content["records"]:
        params = record["params"]
        # `alignment` is the switch that decides whether a weight is drawn; it stands in no model. The configuration
        # itself may lie outside of the space: the sampler hears of the point of the space that is nearest to it.
        study.enqueue_trial({**params, **nearest(params), "alignment": params.get("alignment_weight", 0) > 0})
        trial = study.ask()
        suggest(trial, config, content["arm"])
        tell(study, trial, record)
    return study
