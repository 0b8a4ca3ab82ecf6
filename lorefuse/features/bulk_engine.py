"""A compute engine for Feast that fills the online store by columns instead of by cells.

Feast's local engine turns every cell into a protobuf object, and its SQLite store runs one statement for each. This
engine leaves reading, filtering and the choice of the latest row to Feast, and writes the same bytes itself where the
store is Feast's own for SQLite or Redis; anything else goes Feast's way. Name it in `feature_store.yaml`::

    batch_engine:
      type: lorefuse.features.bulk_engine.BulkComputeEngine

It is used wherever Feast materializes: `feast materialize` as well as the pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.local.nodes import LocalOutputNode

from lorefuse.features.bulk_write import writer

if TYPE_CHECKING:
    from feast.infra.compute_engines.dag.context import ExecutionContext
    from feast.infra.registry.base_registry import BaseRegistry


class BulkComputeEngine(LocalComputeEngine):  # type: ignore[misc]  # feast is untyped
    """Feast's local engine with a faster last step; options and everything else are inherited."""

    def __init__(self, type: str | None = None, **kwargs: Any) -> None:
        """Take the options of Feast's local engine; `type` is the name that the configuration found this class by."""
        super().__init__(**kwargs)

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any
    ) -> LocalMaterializationJob:
        name = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        context = self.get_execution_context(registry, task)
        _Builder(registry, task, backend=self._get_backend(context)).build().execute(context)
        return LocalMaterializationJob(job_id=name, status=MaterializationJobStatus.SUCCEEDED)


class _Builder(LocalFeatureBuilder):  # type: ignore[misc]
    def build_output_nodes(self, view: Any, input_node: Any) -> LocalOutputNode:
        node = _BulkOutput("output", self.dag_root.view, inputs=[input_node])
        self.nodes.append(node)
        return node


class _BulkOutput(LocalOutputNode):  # type: ignore[misc]
    """Writes a table by columns where that gives Feast's bytes, and Feast's way where it might not."""

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        view = self.feature_view
        write = writer(context.online_store, context.repo_config, view) if view.online and not view.offline else None
        table = self.get_single_table(context).data
        if write is None or not write(table):
            return super().execute(context)
        context.node_outputs[self.name] = output = ArrowTableValue(data=table)
        return output
