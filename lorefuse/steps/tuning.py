"""Steps of the tuning pipeline: ask for trials, run each by itself, tell what came out, keep the two studies.

A study is a folder with `study.json`; nothing else is shared. A trial is addressed by what it is asked to try, so a
pipeline that was killed goes on where it stopped: the same study asks for the same trials, and those that are
finished are read back.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.config import parse_config
from lorefuse.core.atomic import atomic_folder
from lorefuse.core.log import reported, say
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import StepResult, origin, reuse_or_build
from lorefuse.steps.common import Config, Folder

if TYPE_CHECKING:
    from lorefuse.tuning.study import TrialTask

TRIAL_FILE = "trial.json"


@reported
def open_study(config: Config, arm: str) -> StepResult:
    """An empty study of one arm."""
    parse_config(config)

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.generations import new_study, save_study

        save_study(new_study(arm), out_path)
        return {"arm": arm}

    return reuse_or_build("open_study", config=arm, inputs={}, build=build)


@reported
def ask_trials(config: Config, generation: int, num_generations: int, study: Folder) -> list[dict[str, Any]]:
    """Study → the next generation's trials, each a number and its parameters.

    A pipeline cannot collect from an empty loop: a generation for which no trial is left asks for a single trial
    without parameters, which `run_trial` answers at once and `tell_trials` leaves out.
    """
    from lorefuse.tuning.generations import ask, load_study, sizes

    pipeline = parse_config(config)
    known = load_study(origin(Path(study)))
    first = len(json.loads(known)["records"])
    asked = ask(known, pipeline, sizes(pipeline.tuning.num_trials, num_generations)[generation])
    items = [{"number": first + n, "params": params} for n, params in enumerate(asked)]
    return items or [{"number": -1, "params": {}}]


@reported
def run_trial(config: Config, arm: str, trial: dict[str, Any], study: Folder, training_set: Folder) -> str:
    """One trial → its record as JSON. A trial that fails is a record too: the study goes on."""
    from lorefuse.tuning.generations import load_study
    from lorefuse.tuning.study import TrialTask
    from lorefuse.tuning.trial import exact, run_apart

    start_s = time.perf_counter()
    pipeline = parse_config(config)
    number, rows_path = int(trial["number"]), origin(Path(training_set))
    if number < 0:
        return json.dumps({"number": number})
    params = exact(trial["params"])
    records = json.loads(load_study(origin(Path(study))))["records"]
    curves = tuple(tuple(record["curve"]) for record in records if record["state"] == "COMPLETE")
    task = TrialTask(str(rows_path), pipeline, arm, params, curves if pipeline.tuning.pruning else ())
    record = {"number": number, **_kept(task, run_apart)}
    value = None if record["value"] is None else round(record["value"], 5)
    summary = {"arm": arm, "number": number, "state": record["state"], "value": value}
    elapsed_s = round(time.perf_counter() - start_s, 2)
    say("step", step="run_trial", reused=record.pop("reused"), elapsed_s=elapsed_s, summary=summary)
    return json.dumps(record)


def _kept(task: TrialTask, run: Callable[[TrialTask], dict[str, Any]]) -> dict[str, Any]:
    """Run a trial, or read its record where an earlier run has it; a process that was killed is tried anew."""
    from lorefuse.tuning.trial import KILLED

    sections = ("data", "split", "features", "model", "training", "tuning")
    key = {name: getattr(task.config, name).model_dump(mode="json") for name in sections}
    key |= {"arm": task.arm, "params": task.params, "curves": task.curves}

    def build(out_path: Path) -> dict[str, Any]:
        record = run(task)
        (out_path / TRIAL_FILE).write_text(json.dumps(record), "utf-8")
        return {"state": record["state"]}

    inputs = {"training_set": Path(task.training_set_path)}
    result = reuse_or_build("trial", config=key, inputs=inputs, build=build)
    record: dict[str, Any] = json.loads((result.path / TRIAL_FILE).read_text("utf-8"))
    if record.get("error") == KILLED:
        shutil.rmtree(result.path)
    return {**record, "reused": result.reused}


@reported
def tell_trials(config: Config, study: Folder, results: list[str]) -> StepResult:
    """Study and a generation's records → the study that knows them."""
    parse_config(config)
    study_path = origin(Path(study))
    records = sorted((json.loads(result) for result in results), key=lambda record: record["number"])

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.generations import add_results, load_study, save_study

        known = add_results(load_study(study_path), [record for record in records if record["number"] >= 0])
        save_study(known, out_path)
        states = [record["state"] for record in json.loads(known)["records"]]
        return {"num_trials": len(states), "num_failed": states.count("FAIL"), "num_pruned": states.count("PRUNED")}

    return reuse_or_build("tell_trials", config=records, inputs={"study": study_path}, build=build)


@reported
def close_tuning(config: Config, real: Folder, control: Folder) -> StepResult:
    """Both studies → `<home>/tuning/<name>/`, which `tuning.studies_path` names.

    Raises:
        DivergedError: A study has no finished trial.
    """
    pipeline = parse_config(config)
    paths = {"real": origin(Path(real)), "none": origin(Path(control))}

    def build(out_path: Path) -> dict[str, Any]:
        from lorefuse.tuning.study import best_record

        facts: dict[str, Any] = {}
        for arm, path in paths.items():
            records = json.loads((path / "study.json").read_text("utf-8"))["trials"]
            facts[f"best_{arm}"] = round(best_record(records)["value"], 5)
            (out_path / arm).mkdir()
            shutil.copyfile(path / "study.json", out_path / arm / "study.json")
        return facts

    result = reuse_or_build("close_tuning", config=None, inputs=paths, build=build)
    kept_path = settings().home_path / "tuning" / pipeline.name
    with atomic_folder(kept_path) as draft_path:
        for arm in paths:
            shutil.copytree(result.path / arm, draft_path / arm)
    return result
