"""Run a pipeline on a Kubeflow cluster: ``lorefuse submit`` becomes ``python -m pipelines.submit submit <request>``.

Order matters: the preset, the cluster file and the arguments are checked against the compiled pipeline first; only then
is the server asked anything.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorefuse.auto.pinned import as_chosen
from lorefuse.config import PipelineConfig, load_config
from lorefuse.config.cluster import ClusterConfig, load_cluster
from lorefuse.config.submission import Access, Query, Submission
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import LorefuseError, UsageError

YES = ("y", "yes")


def submit(request: Submission) -> int:
    """Compile, check, send; wait where that was asked for.

    Args:
        request: What to run, where and when.

    Returns:
        Exit code: 0, or 1 where a run that was waited for did not succeed.

    Raises:
        UsageError: Something the user can mend, said before or after asking the server.
        UnreachableError: The server does not answer.
    """
    from pipelines.client import Cluster
    from pipelines.client_arguments import check_paths, check_places, make_arguments, read_inputs
    from pipelines.compile import compile_pipeline

    config, cluster = load_config(request.config_path), load_cluster(request.cluster_path)
    if request.pipeline != "training":  # which races where it runs
        config = as_chosen(config, required=request.pipeline == "refresh")
    check_places(cluster)
    with tempfile.TemporaryDirectory() as folder:
        package_path = Path(folder) / f"{request.pipeline}.yaml"
        compile_pipeline(request.pipeline, package_path, cluster)
        pipeline_name, inputs = read_inputs(package_path)
        arguments = make_arguments(inputs, config, request.params)
        check_paths(config, cluster)

        server = Cluster(request.host, request.namespace, request.token_path)
        experiment_id = _experiment(server, request)
        what = _what(server, request, package_path, pipeline_name)
        content = {**what, "params": arguments, **_common(cluster)}
        if request.cron is not None:
            return _schedule(server, request, config, experiment_id, content)
        name = request.name or _run_name(config, request.pipeline)
        run_id = server.create_run(experiment_id, name, **content)
    _say(run=f"{name} ({run_id})", page=server.run_url(run_id))
    if not request.wait:
        _write(request, {"run_id": run_id, "name": name, "url": server.run_url(run_id), "state": "PENDING"})
        _say(later=f"lorefuse result {run_id} --host {server.host} --wait")
        return 0
    return _finish(server, request, run_id, config)


def result(request: Query) -> int:
    """Fetch what became of a run, and wait for its end where that was asked for.

    Returns:
        Exit code: 1 for a run that failed or was cancelled, else 0.
    """
    from pipelines.client import Cluster

    return _finish(Cluster(request.host, request.namespace, request.token_path), request, request.run_id, None)


def _finish(server: Any, request: Access, run_id: str, config: PipelineConfig | None) -> int:
    from pipelines.client_watch import FAILED_STATES, follow, result_of, result_text

    def look() -> Any:
        return server.get_run(run_id)

    run = follow(look, poll_s=request.poll_s, timeout_s=request.timeout_s) if request.wait else look()
    facts = result_of(run, server.run_url(run_id))
    if config is not None and facts["state"] == "SUCCEEDED":
        facts["models"] = _models(config)
    _write(request, facts)
    print(result_text(facts), flush=True)
    for alias, version in facts.get("models", {}).items():
        _say(model=f"{alias}: version {version}")
    return 1 if facts["state"] in FAILED_STATES else 0


def _experiment(server: Any, request: Submission) -> str:
    """Return the experiment's id; a missing one is created where the user agrees."""
    found: str | None = server.find_experiment(request.experiment)
    if found is not None:
        return found
    agreed = request.create_experiment
    if agreed is None and sys.stdin.isatty():
        agreed = input(f"There is no experiment {request.experiment}. Create it? [y/N] ").strip().lower() in YES
    if not agreed:
        raise UsageError(
            f"There is no experiment {request.experiment} on {server.host}.",
            fix="create it with this very command: --create-experiment",
        )
    created: str = server.create_experiment(request.experiment)
    _say(experiment=f"{request.experiment} created")
    return created


def _what(server: Any, request: Submission, package_path: Path, pipeline_name: str) -> dict[str, str]:
    """Return what is run, in kfp's words: the compiled file itself, or an uploaded version."""
    if not request.upload:
        return {"pipeline_package_path": str(package_path)}
    name = request.pipeline_name or pipeline_name
    content_name = sha256_file(package_path)[:12]
    pipeline_id, version_id, version, is_new = server.upload(package_path, name, request.version_name, content_name)
    _say(pipeline=f"{name}, version {version} {'uploaded' if is_new else 'is there already'}")
    return {"pipeline_id": pipeline_id, "version_id": version_id}


def _common(cluster: ClusterConfig) -> dict[str, str]:
    pairs = {"pipeline_root": cluster.storage.pipeline_root, "service_account": cluster.service_account}
    return {name: value for name, value in pairs.items() if value is not None}


def _schedule(
    server: Any, request: Submission, config: PipelineConfig, experiment_id: str, content: dict[str, Any]
) -> int:
    name = request.name or f"{config.name}-{request.pipeline}"
    recurring_run_id = server.create_recurring_run(
        experiment_id,
        name,
        cron_expression=request.cron,
        no_catchup=not request.catch_up,
        max_concurrency=request.max_concurrency,
        **content,
    )
    _write(request, {"recurring_run_id": recurring_run_id, "name": name, "cron": request.cron})
    missed = "missed times are made up for" if request.catch_up else "missed times are left out"
    _say(schedule=f"{name} ({recurring_run_id}): {request.cron}; {missed}")
    return 0


def _models(config: PipelineConfig) -> dict[str, str]:
    """Return the registry's aliases after the run, where the environment names a tracking server."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return {}
    from lorefuse.registry.version import aliases

    model = config.registry.model_name
    try:
        return {f"{model}@{alias}": version for alias, version in sorted(aliases(model).items())}
    except LorefuseError as error:
        _say(model=f"not known: {str(error).splitlines()[0]}")
        return {}


def _run_name(config: PipelineConfig, pipeline: str) -> str:
    """Return a name that no other run has: it is how a run whose answer was lost is found again."""
    return f"{config.name}-{pipeline}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _write(request: Access, facts: dict[str, Any]) -> None:
    if request.json_path is not None:
        write_json(request.json_path, facts)


def _say(**facts: str) -> None:
    for name, text in facts.items():
        print(f"{name:<7} {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Read the request and do it; one clear message for an error, exit code 2 for the user's mistake and 1 for ours."""
    command, request = arguments or sys.argv[1:]
    try:
        if command == "submit":
            return submit(Submission.model_validate_json(request))
        return result(Query.model_validate_json(request))
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped looking. What was submitted goes on: lorefuse result <run id> --wait", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
