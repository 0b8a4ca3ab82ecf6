"""Commands around single trainings: train here, or write a TrainJob or a Katib Experiment for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lorefuse.cli.options import ConfigOption
from lorefuse.cli.pipelines import run_module

RowsOption = Annotated[Path, typer.Option("--rows", help="Training set folder, e.g. a finished training_set step.")]
ArmOption = Annotated[str, typer.Option(help="Knowledge given to the model: real, none, shuffled …")]
NameOption = Annotated[str, typer.Option(help="Name of the Kubernetes resource.")]
ClusterFile = Annotated[Path | None, typer.Option("--cluster", help="Cluster file: image, resources, secrets.")]
YamlOption = Annotated[Path | None, typer.Option("--yaml", help="Where the YAML goes; default: <name>.yaml.")]
SendOption = Annotated[bool, typer.Option("--send", help="Create it on the cluster of the current kubeconfig too.")]
NamespaceOption = Annotated[str, typer.Option(help="Kubernetes namespace.")]


def register_training_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for name, command in (
        ("train", train), ("submit-training", submit_training), ("submit-tuning", submit_tuning)
    ):  # fmt: skip
        app.command(name=name)(command)


def train(
    config: ConfigOption,
    rows: RowsOption,
    out: Annotated[Path, typer.Option(help="Folder of the ranker; appears whole.")],
    arm: ArmOption = "real",
    seed: Annotated[int, typer.Option(min=0, help="Initial weights, order and dropout.")] = 0,
) -> None:
    """Train one ranker, in training.num_processes processes; one that was killed goes on after its last checkpoint."""
    from lorefuse.auto.pinned import load_chosen
    from lorefuse.core.errors import UsageError
    from lorefuse.training.job import Job, run_job

    if not rows.is_dir():
        raise UsageError(f"There is no training set {rows}.", expected="a folder", fix="lorefuse run makes one")
    content = {"rows_path": rows.resolve(), "out_path": out.resolve(), "arm": arm, "seed": seed}
    trained = run_job(Job.model_validate({**content, "config": load_chosen(config)}))
    epochs = trained.history.epochs
    typer.echo(f"validation_score={trained.validation_score}")
    typer.echo(
        f"best epoch {trained.history.best_epoch} of {len(epochs)}, {epochs[-1]['samples_per_s']:,} rows/s, {out}"
    )


def submit_training(
    config: ConfigOption,
    rows: RowsOption,
    out: Annotated[Path, typer.Option(help="Folder of the ranker, as pods see it.")],
    name: NameOption = "lorefuse-training",
    cluster: ClusterFile = None,
    arm: ArmOption = "real",
    nodes: Annotated[int, typer.Option(min=1, help="Pods that share the training.")] = 1,
    runtime: Annotated[str, typer.Option(help="ClusterTrainingRuntime.")] = "torch-distributed",
    namespace: NamespaceOption = "default",
    yaml_out: YamlOption = None,
    send: SendOption = False,
) -> None:
    """Write a TrainJob of Kubeflow's Trainer: one training by torchrun on several nodes."""
    fields = {"out_path": out, "num_nodes": nodes, "runtime": runtime, "rows_path": rows, "arm": arm}
    _request("trainjob", config, cluster, name, namespace, yaml_out, send, fields)


def submit_tuning(
    config: ConfigOption,
    rows: RowsOption,
    name: NameOption = "lorefuse-tuning",
    cluster: ClusterFile = None,
    arm: ArmOption = "real",
    parallel: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 2,
    namespace: NamespaceOption = "default",
    yaml_out: YamlOption = None,
    send: SendOption = False,
) -> None:
    """Write a Katib Experiment over the search space that `lorefuse tune` searches."""
    fields = {"num_parallel": parallel, "rows_path": rows, "arm": arm}
    _request("katib", config, cluster, name, namespace, yaml_out, send, fields)


def _request(
    resource: str,
    config: Path,
    cluster: Path | None,
    name: str,
    namespace: str,
    yaml_out: Path | None,
    send: bool,
    fields: dict[str, Any],
) -> None:
    from lorefuse.config import load_config
    from lorefuse.config.cluster import load_cluster
    from lorefuse.config.resources import ResourceRequest
    from lorefuse.config.submission import ask

    load_config(config)  # a mistake in a file is said before anything heavy is imported
    load_cluster(cluster)
    paths = {"config_path": config.resolve(), "cluster_path": cluster and cluster.resolve()}
    target = (yaml_out or Path(f"{name}.yaml")).resolve()
    request = ask(
        ResourceRequest,
        resource=resource,
        name=name,
        namespace=namespace,
        send=send,
        yaml_path=target,
        **paths,
        **fields,
    )
    run_module("pipelines.resources", [request.model_dump_json(exclude_none=True)])
