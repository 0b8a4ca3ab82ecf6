"""What `lorefuse submit` and `lorefuse result` are asked for: checked here, handed as JSON to `pipelines.submit`.

No secret is in it: the token of the API server comes from LOREFUSE_KFP_TOKEN or from a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from lorefuse.config.base import Section
from lorefuse.core.errors import UsageError

_CRON_FIELD = re.compile(r"^[0-9A-Za-z*/,?#LW-]+$")
_CRON_MACRO = re.compile(r"^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \d+[smh].*)$")
_OPTIONS = {"token_path": "token-file", "params": "param"}
T = TypeVar("T", bound=Section)


class Access(Section):
    """How a Kubeflow Pipelines API server is reached."""

    host: str = Field(pattern=r"^https?://[^\s/]+", description="Address, e.g. http://127.0.0.1:8888.")
    namespace: str | None = Field(None, min_length=1, description="Namespace on a multi-user server.")
    token_path: Path | None = Field(None, description="File with the bearer token; read anew at each request.")
    json_path: Path | None = Field(None, description="File that gets the result as JSON.")
    wait: bool = Field(False, description="Wait for the end and show the tasks meanwhile.")
    timeout_s: float | None = Field(None, gt=0, description="Longest wait in seconds; the run itself goes on.")
    poll_s: float = Field(5.0, gt=0, description="Seconds between two looks at the run.")


class Query(Access):
    """A run that was submitted before."""

    run_id: str = Field(min_length=1, description="Id of the run.")


class Submission(Access):
    """A pipeline, its arguments, and when it shall run."""

    experiment: str = Field(min_length=1, description="Experiment that groups the runs.")
    create_experiment: bool | None = Field(None, description="Create a missing experiment; None asks on a terminal.")
    config_path: Path = Field(description="YAML preset.")
    pipeline: str = Field("training", pattern=r"^[a-z_]+$", description="File and function below pipelines/.")
    cluster_path: Path | None = Field(None, description="Cluster file.")
    params: tuple[str, ...] = Field((), description="name=value; a dotted name reaches into a structure.")
    name: str | None = Field(None, min_length=1, max_length=128, description="Name of the run or of the recurring run.")
    upload: bool = Field(False, description="Upload the pipeline or a new version, and run that version.")
    pipeline_name: str | None = Field(
        None, min_length=1, description="Name to upload under; default: the pipeline's own."
    )
    version_name: str | None = Field(
        None, min_length=1, description="Name of the version; default: its content's hash."
    )
    cron: str | None = Field(None, description="Six fields, seconds first, or @daily and the like: a recurring run.")
    catch_up: bool = Field(False, description="Make up for what a paused schedule missed.")
    max_concurrency: int = Field(1, ge=1, le=10, description="Runs of the schedule at the same time.")

    @model_validator(mode="after")
    def _fits(self) -> Submission:
        if self.cron is not None:
            _check_cron(self.cron)
            if self.wait:
                raise ValueError("--wait does not go with --cron: a recurring run has no end")
        elif self.catch_up:
            raise ValueError("--catch-up needs --cron")
        if not self.upload and (self.pipeline_name or self.version_name):
            raise ValueError("--pipeline-name and --version-name need --upload")
        return self


def _check_cron(text: str) -> None:
    if _CRON_MACRO.match(text):
        return
    fields = text.split()
    if len(fields) != 6:
        hint = f"; did you mean '0 {text}'?" if len(fields) == 5 else ""
        raise ValueError(f"cron needs six fields, seconds first, e.g. '0 0 3 * * *'; got {len(fields)}{hint}")
    wrong = [field for field in fields if not _CRON_FIELD.match(field)]
    if wrong:
        raise ValueError(f"cron has a field that no schedule can have: {wrong[0]!r}")


def ask(kind: type[T], **content: Any) -> T:
    """Return a checked request.

    Args:
        kind: `Submission`, `Query`, or another request.
        content: Its fields.

    Raises:
        UsageError: A value that does not fit; all of them named by their option.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [_line(item) for item in error.errors()]
        raise UsageError("The request cannot be sent.\n" + "\n".join(lines)) from None


def _line(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return f"  {message}"
    name = str(item["loc"][0])
    option = "--" + _OPTIONS.get(name, name.removesuffix("_path").removesuffix("_s").replace("_", "-"))
    return f"  {option}: expected: {message}; got: {item.get('input')!r}"
