"""One trial of an outside tuner: ``python -m lorefuse.tuning.flat_trial '<task>' --learning_rate=0.002 …``.

The task is JSON: where the rows are, the configuration, the arm. The result is printed as Katib's stdout collector
reads it, ``validation_score=-0.5386``; a trial that diverges ends with exit code 1 and no score.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lorefuse.config import Arm, PipelineConfig, Section
from lorefuse.core.errors import ConfigError, DivergedError, LorefuseError
from lorefuse.tuning.flat import METRIC, from_flat


class FlatTask(Section):
    """What all trials of a study have in common."""

    rows_path: Path
    config: PipelineConfig
    arm: Arm = "real"


def run(arguments: list[str]) -> float:
    """Run the trial and return its score.

    Args:
        arguments: The task as JSON, then ``--name=value`` for each parameter of `flat.flat_space`.

    Raises:
        ConfigError: An argument does not fit the space.
        DivergedError: The loss is no longer finite.
    """
    from lorefuse.tuning.study import TrialTask, run_task

    if not arguments:
        raise ConfigError("A trial needs its task.", expected="the task as JSON, then --name=value …", got="nothing")
    task = FlatTask.model_validate_json(arguments[0])
    given = dict(_pair(argument) for argument in arguments[1:])
    params = from_flat(given, task.config, task.arm)
    unused = sorted(given.keys() - params.keys() - {"alignment"})
    if unused:
        print(f"this model has no {', '.join(unused)}: drawn, not used", flush=True)
    record = run_task(TrialTask(str(task.rows_path), task.config, task.arm, params))
    if record["state"] != "COMPLETE":
        raise DivergedError("The trial's loss is not finite.", got=str(params))
    return float(record["value"])


def _pair(argument: str) -> tuple[str, str]:
    name, equals, value = argument.removeprefix("--").partition("=")
    if not (argument.startswith("--") and equals):
        raise ConfigError("A parameter is --name=value.", got=argument)
    return name, value


def main() -> int:
    """Run the trial of the command line and print its score; return the exit code."""
    try:
        print(f"{METRIC}={run(sys.argv[1:])}", flush=True)
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
