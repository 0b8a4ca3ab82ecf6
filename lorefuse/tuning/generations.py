"""Tuning in generations, with nothing shared but JSON: ask for parameters, run them anywhere, tell the results.

A pipeline asks for N trials, runs them side by side (a ParallelFor over the parameter dicts), and tells what came
out; the study is rebuilt from its records each time, so no database stands behind it.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.errors import ArtifactError
from lorefuse.tuning.space import suggest
from lorefuse.tuning.study import first_point, make_sampler, tell


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
    return [suggest(study.ask(), config, content["arm"]) for _ in range(num_trials)]


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
        # `alignment` is the switch that decides whether a weight is drawn; it stands in no model.
        study.enqueue_trial({**record["params"], "alignment": record["params"].get("alignment_weight", 0) > 0})
        trial = study.ask()
        suggest(trial, config, content["arm"])
        tell(study, trial, record)
    return study
