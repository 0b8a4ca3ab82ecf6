"""Commands for a cluster: compile a pipeline, submit it, ask what became of it, make MLflow's accounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorefuse.cli.options import ConfigOption
from lorefuse.cli.pipelines import run_module
from lorefuse.cli.training import register_training_commands

if TYPE_CHECKING:
    from lorefuse.config.submission import Access

HOST_VARIABLE = "LOREFUSE_KFP_HOST"

HostOption = Annotated[
    str, typer.Option("--host", envvar=HOST_VARIABLE, help="Kubeflow Pipelines API, e.g. http://127.0.0.1:8888.")
]
NamespaceOption = Annotated[str | None, typer.Option(help="Your namespace, where the server is multi-user.")]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", help="File with the bearer token; else the variable LOREFUSE_KFP_TOKEN."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the end, show the tasks, print the result.")]
TimeoutOption = Annotated[float | None, typer.Option(help="Longest wait in seconds; the run itself goes on.")]
PollOption = Annotated[float, typer.Option(help="Seconds between two looks at the run.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
PipelineOption = Annotated[str, typer.Option(help="Which pipeline of pipelines/, e.g. training.")]
ClusterOption = Annotated[
    Path | None, typer.Option(help="Cluster file: image, resources, secrets, storage (pipelines/clusters/*.yaml).")
]


def register_cluster_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for name, command in (("compile", compile_pipeline), ("submit", submit), ("result", result)):
        app.command(name=name)(command)
    app.command()(accounts)
    register_training_commands(app)


def compile_pipeline(
    out: Annotated[Path | None, typer.Option(help="Where the YAML goes; default: <pipeline>.yaml.")] = None,
    pipeline: PipelineOption = "training",
    cluster: ClusterOption = None,
) -> None:
    """Write a pipeline as YAML for a Kubeflow cluster: image, resources, secrets by name, storage, retries."""
    arguments = ["--pipeline", pipeline, "--out", str((out or Path(f"{pipeline}.yaml")).resolve())]
    run_module("pipelines.compile", [*arguments, *(["--cluster", str(cluster.resolve())] if cluster else [])])


def submit(
    config: ConfigOption,
    experiment: Annotated[str, typer.Option(help="Experiment that groups the runs.")],
    host: HostOption,
    param: Annotated[
        list[str] | None,
        typer.Option(help="name=value, checked before anything is sent; config.training.max_epochs=3 works too."),
    ] = None,
    pipeline: PipelineOption = "training",
    cluster: ClusterOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the preset's, with the time.")] = None,
    create_experiment: Annotated[
        bool | None,
        typer.Option("--create-experiment/--no-create-experiment", help="Create it where it is missing."),
    ] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Upload the pipeline or a version; run that.")] = False,
    pipeline_name: Annotated[str | None, typer.Option(help="Name to upload under.")] = None,
    version_name: Annotated[str | None, typer.Option(help="Name of the version; default: its hash.")] = None,
    cron: Annotated[str | None, typer.Option(help="Recurring run: six fields, seconds first: '0 0 3 * * *'.")] = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up/--no-catch-up", help="Make up for what a paused schedule missed.")
    ] = False,
    max_concurrency: Annotated[int, typer.Option(help="Runs of the schedule at the same time.")] = 1,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    poll: PollOption = 5.0,
    namespace: NamespaceOption = None,
    token_file: TokenOption = None,
    json_out: JsonOption = None,
) -> None:
    """Run a pipeline on a Kubeflow cluster, once or on a schedule; exit code 1 where the run fails."""
    from lorefuse.config import load_config
    from lorefuse.config.cluster import load_cluster
    from lorefuse.config.submission import Submission, ask

    request = ask(
        Submission,
        host=host,
        namespace=namespace,
        token_path=token_file and token_file.resolve(),
        json_path=json_out and json_out.resolve(),
        wait=wait,
        timeout_s=timeout,
        poll_s=poll,
        experiment=experiment,
        create_experiment=create_experiment,
        config_path=config.resolve(),
        pipeline=pipeline,
        cluster_path=cluster and cluster.resolve(),
        params=tuple(param or ()),
        name=name,
        upload=upload,
        pipeline_name=pipeline_name,
        version_name=version_name,
        cron=cron,
        catch_up=catch_up,
        max_concurrency=max_concurrency,
    )
    load_config(config)  # a mistake in a file is said before kfp is imported
    load_cluster(cluster)
    run_module("pipelines.submit", _as_arguments("submit", request))


def result(
    run_id: Annotated[str, typer.Argument(help="Id of the run, as `lorefuse submit` printed it.")],
    host: HostOption,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    poll: PollOption = 5.0,
    namespace: NamespaceOption = None,
    token_file: TokenOption = None,
    json_out: JsonOption = None,
) -> None:
    """Fetch what became of a submitted run: its state, its tasks, their errors; exit code 1 where it failed."""
    from lorefuse.config.submission import Query, ask

    request = ask(
        Query,
        host=host,
        namespace=namespace,
        token_path=token_file and token_file.resolve(),
        json_path=json_out and json_out.resolve(),
        wait=wait,
        timeout_s=timeout,
        poll_s=poll,
        run_id=run_id,
    )
    run_module("pipelines.submit", _as_arguments("result", request))


def _as_arguments(command: str, request: Access) -> list[str]:
    """Return the request as a command line; it holds no secret, only the path of the token's file."""
    return [command, request.model_dump_json(exclude_none=True)]


def accounts() -> None:
    """Make MLflow's accounts, one a role; their passwords come from LOREFUSE_MLFLOW_<ROLE>_PASSWORD."""
    from lorefuse.registry.access.accounts import accounts_of, make_accounts

    wanted = accounts_of(os.environ)
    make_accounts(wanted)
    for account in wanted:
        typer.echo(f"{account.username}: {account.role}")
