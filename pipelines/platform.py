"""What a cluster adds to a pipeline: resources, GPUs, secrets by name, storage, retries, timeouts, a failure report.

`pipelines/training.py` says what happens in which order, and runs as it stands on kfp's local runner. For a cluster,
`on_cluster` traces the same function once more, inside an exit handler, and dresses every task from a `ClusterConfig`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_context
from kfp.dsl.graph_component import GraphComponent

from components.report_failure import report_failure
from lorefuse.config.cluster import ClusterConfig, secrets_of
from lorefuse.core.atomic import sha256_json
from lorefuse.core.closure import code_of_file
from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings

CODE_VARIABLE = "LOREFUSE_CODE_DIGEST"
"""kfp's cache key holds a task's image, command and inputs, and not the library's code: this stands for the code."""
CODE_SUFFIXES = (".py", ".yaml", ".j2", ".css", ".js", ".pbtxt")
SCRATCH_VOLUME = "lorefuse-home"
HOME_VARIABLE = "LOREFUSE_HOME"


def on_cluster(pipeline: GraphComponent, cluster: ClusterConfig) -> GraphComponent:
    """Return the pipeline as a cluster shall run it.

    Args:
        pipeline: A function decorated with ``dsl.pipeline``; left as it is.
        cluster: What the cluster gives each step.

    Returns:
        A pipeline of the same name and inputs, whose steps stand in an exit handler that reports a failure.

    Raises:
        UsageError: `cluster` names a step that no component has.
    """
    _check_step_names(cluster)
    inner = _traced_again(pipeline, cluster)

    @functools.wraps(pipeline.pipeline_func)
    def reported(*args: Any, **kwargs: Any) -> None:
        last = report_failure(
            pipeline=pipeline.name,
            run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
        with dsl.ExitHandler(last, name="steps"):
            inner(*args, **kwargs)
        _dress_all(cluster)

    return _decorated(reported, pipeline, cluster)


def _traced_again(pipeline: GraphComponent, cluster: ClusterConfig) -> Callable[..., Any]:
    """Return the pipeline's function with the pipelines it calls dressed too: theirs were traced at import, bare."""
    function = pipeline.pipeline_func
    called = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    nested = {
        name: _dressed_nested(value, cluster) for name, value in called.items() if isinstance(value, GraphComponent)
    }
    again = types.FunctionType(
        function.__code__, {**function.__globals__, **nested}, function.__name__, function.__defaults__,
        function.__closure__,
    )  # fmt: skip
    again.__kwdefaults__ = function.__kwdefaults__
    return again


def _dressed_nested(pipeline: GraphComponent, cluster: ClusterConfig) -> GraphComponent:
    inner = _traced_again(pipeline, cluster)

    @functools.wraps(pipeline.pipeline_func)
    def dressed(*args: Any, **kwargs: Any) -> Any:
        outputs = inner(*args, **kwargs)
        _dress_all(cluster)
        return outputs

    return _decorated(dressed, pipeline, cluster)


def _decorated(function: Callable[..., Any], pipeline: GraphComponent, cluster: ClusterConfig) -> GraphComponent:
    return dsl.pipeline(
        function, name=pipeline.name, description=pipeline.description, pipeline_root=cluster.storage.pipeline_root
    )


def _dress_all(cluster: ClusterConfig) -> None:
    """Dress every task of the pipeline that is being traced; a nested one's tasks were dressed in its own trace."""
    tasks: Mapping[str, dsl.PipelineTask] = pipeline_context.Pipeline.get_default_pipeline().tasks
    for task in tasks.values():
        if task.container_spec is not None:
            _dress(task, task.component_spec.name.replace("-", "_"), cluster)


def _dress(task: dsl.PipelineTask, step: str, cluster: ClusterConfig) -> None:
    _add_resources(task, step, cluster)
    _add_environment(task, step, cluster)
    _add_code_to_key(task, step)
    _add_storage(task, cluster)
    if step in cluster.uncached:  # a pipeline may have said so of other tasks
        task.set_caching_options(False)
    if cluster.gpu is not None and step in cluster.gpu.steps:
        _add_gpu(task, cluster)


def _add_resources(task: dsl.PipelineTask, step: str, cluster: ClusterConfig) -> None:
    resources, backoff = cluster.steps.get(step, cluster.default), cluster.backoff
    task.set_cpu_request(resources.cpu_request).set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request).set_memory_limit(resources.memory_limit)
    # kfp's maximum becomes Argo's maxDuration: counted from the first try, what is over it is not tried again.
    total_s = backoff.total_s(resources.num_retries, resources.timeout_s)
    task.set_retry(resources.num_retries, f"{backoff.first_s}s", backoff.factor, f"{total_s}s")
    kubernetes.set_timeout(task, resources.timeout_s)


def _add_environment(task: dsl.PipelineTask, step: str, cluster: ClusterConfig) -> None:
    task.set_container_image(cluster.image or settings().image)
    kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    kubernetes.set_security_context(task, cluster.user_id, cluster.user_id, run_as_non_root=True)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    variables = {**cluster.env, HOME_VARIABLE: cluster.storage.mount_path, CODE_VARIABLE: step_digest(step)}
    for name, value in sorted(variables.items()):
        task.set_env_variable(name, value)
    for secret in secrets_of(cluster, step):
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), optional=secret.optional)


def _add_code_to_key(task: dsl.PipelineTask, step: str) -> None:
    """Write the digest under the component's source: kfp's cache key holds the command, and no variable."""
    assert task.container_spec is not None
    *command, source = task.container_spec.command
    task.container_spec.command = [*command, f"{source}\n# {CODE_VARIABLE}: {step_digest(step)}\n"]


def _add_storage(task: dsl.PipelineTask, cluster: ClusterConfig) -> None:
    storage = cluster.storage
    if storage.pvc is not None:
        kubernetes.mount_pvc(task, storage.pvc, storage.mount_path)
    else:
        kubernetes.empty_dir_mount(task, SCRATCH_VOLUME, storage.mount_path, size_limit=storage.scratch_size)


def _add_gpu(task: dsl.PipelineTask, cluster: ClusterConfig) -> None:
    gpu = cluster.gpu
    assert gpu is not None
    task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
    for toleration in gpu.tolerations:
        kubernetes.add_toleration(task, toleration.key, toleration.operator, toleration.value, toleration.effect)
    for label, value in sorted(gpu.node_selector.items()):
        kubernetes.add_node_selector(task, label, value)


@functools.cache
def step_digest(step: str) -> str:
    """Return the sha256 of all that a step's result may depend on and that its component does not hold.

    Args:
        step: Name of the component: `components/<step>.py`.
    """
    files = {
        path.relative_to(folder_path.parent).as_posix(): path.read_text("utf-8")
        for folder_path in map(settings().folder, ("feature_repo", "serving"))
        for path in sorted(folder_path.rglob("*"))
        if path.suffix in CODE_SUFFIXES and "__pycache__" not in path.parts
    }
    return sha256_json([code_of_file(settings().folder("components") / f"{step}.py").digest(), files])


def _check_step_names(cluster: ClusterConfig) -> None:
    folder_path = settings().folder("components")
    known = {path.stem for path in folder_path.glob("*.py")} - {"__init__", "base"}
    given = {step for secret in cluster.secrets for step in secret.steps}
    named = {*cluster.steps, *cluster.uncached, *(cluster.gpu.steps if cluster.gpu else ()), *given}
    if known and named - known:
        raise UsageError(
            "The cluster file names steps that do not exist.",
            expected=", ".join(sorted(known)),
            got=", ".join(sorted(named - known)),
            fix="correct the names under `steps`, `uncached`, `gpu.steps` or `secrets`",
        )
