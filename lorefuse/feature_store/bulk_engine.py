"""A compute engine for Feast that fills the online store by columns instead of by cells.

Feast's local engine carries every table through pandas twice, turns every cell into a protobuf object, and its SQLite
store runs one statement for each. This engine leaves reading, transforming and the choice of the latest row to Feast,
keeps the features in Arrow meanwhile, and writes the same bytes itself where the store is Feast's own for SQLite or
Redis; anything else goes Feast's way. Name it in `feature_store.yaml`::

    batch_engine:
      type: lorefuse.feature_store.bulk_engine.BulkComputeEngine

It is used wherever Feast materializes: `feast materialize` as well as the pipeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.local.arrow_table_value import ArrowTableValue
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.local.nodes import LocalDedupNode, LocalFilterNode, LocalOutputNode
from feast.infra.compute_engines.utils import ENTITY_TS_ALIAS

from lorefuse.feature_store.bulk_write import writer

if TYPE_CHECKING:
    from feast.infra.compute_engines.dag.context import ColumnInfo, ExecutionContext
    from feast.infra.registry.base_registry import BaseRegistry

    from lorefuse.feature_store.bulk_write import Writer

_KEYS = (pa.string(), pa.int32(), pa.int64())
_VALUES = (pa.float32(), pa.float64(), pa.string())


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
        view = task.feature_view
        write = writer(context.online_store, context.repo_config, view) if view.online and not view.offline else None
        _Builder(registry, task, self._get_backend(context), write).build().execute(context)
        return LocalMaterializationJob(job_id=name, status=MaterializationJobStatus.SUCCEEDED)


class _Builder(LocalFeatureBuilder):  # type: ignore[misc]
    """Feast's plan, with steps that leave the features in Arrow where nothing before our writer looks at them."""

    def __init__(self, registry: BaseRegistry, task: MaterializationTask, backend: Any, write: Writer | None) -> None:
        super().__init__(registry, task, backend=backend)
        self._write = write

    def build_filter_node(self, view: Any, input_node: Any) -> LocalFilterNode:
        if not self._stays_in_arrow(view):
            return super().build_filter_node(view, input_node)
        ttl = getattr(view, "ttl", None)
        return self._add(_Filter("filter", self.get_column_info(view), self.backend, None, ttl, inputs=[input_node]))

    def build_dedup_node(self, view: Any, input_node: Any) -> LocalDedupNode:
        if not self._stays_in_arrow(view):
            return super().build_dedup_node(view, input_node)
        return self._add(_Dedup("dedup", self.get_column_info(view), self.backend, inputs=[input_node]))

    def build_output_nodes(self, view: Any, input_node: Any) -> LocalOutputNode:
        return self._add(_BulkOutput("output", self.dag_root.view, [input_node], self._write))

    def _stays_in_arrow(self, view: Any) -> bool:
        """Tell whether rows go from their source to our writer as they are, by Feast's pandas alone."""
        changes = (
            getattr(view, "filter", None)
            or self._should_transform(view)
            or self._should_aggregate(view)
            or self._should_validate(view)
        )
        return bool(self._write and view.data_source and type(self.backend) is PandasBackend and not changes)

    def _add(self, node: Any) -> Any:
        self.nodes.append(node)
        return node


class _Filter(LocalFilterNode):  # type: ignore[misc]
    """Hands a table on: there are no entity rows whose moments could filter it."""

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        table = self.get_single_table(context).data
        if ENTITY_TS_ALIAS in table.column_names or not _survives_pandas(table, self.column_info):
            return super().execute(context)
        context.node_outputs[self.name] = output = ArrowTableValue(data=table)
        return output


class _Dedup(LocalDedupNode):  # type: ignore[misc]
    """Chooses the latest row of a key as Feast does, from keys and times alone; rows keep their order."""

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        table, columns = self.get_single_table(context).data, self.column_info
        keys = columns.join_keys_columns
        times = [columns.timestamp_column, columns.created_timestamp_column]
        by = [name for name in times if name and name in table.column_names]
        if not keys or not _survives_pandas(table, columns):
            return super().execute(context)
        frame = self.backend.from_arrow(table.select([*keys, *by]))
        latest = self.backend.drop_duplicates(frame, keys=keys, sort_by=by, ascending=False)
        if len(latest) < len(frame):
            table = table.take(pa.array(latest.index.sort_values()))
        context.node_outputs[self.name] = output = ArrowTableValue(data=table)
        return output


class _BulkOutput(LocalOutputNode):  # type: ignore[misc]
    """Writes a table by columns where that gives Feast's bytes, and Feast's way where it might not."""

    def __init__(self, name: str, view: Any, inputs: list[Any], write: Writer | None) -> None:
        super().__init__(name, view, inputs=inputs)
        self._write = write

    def execute(self, context: ExecutionContext) -> ArrowTableValue:
        table = self.get_single_table(context).data
        if self._write is None or not self._write(table):
            return super().execute(context)
        context.node_outputs[self.name] = output = ArrowTableValue(data=table)
        return output


def _survives_pandas(table: pa.Table, columns: ColumnInfo) -> bool:
    """Tell whether the way through pandas, which Feast takes, would leave what is written as it is.

    It makes numbers of whole numbers with nulls, and null of NaN; the writer takes either for null.
    """
    keys = set(columns.join_keys_columns)
    return all(
        field.type in _KEYS and not table[field.name].null_count if field.name in keys else _is_feature(field.type)
        for field in table.schema
    )


def _is_feature(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_list(kind) else kind
    return value in _VALUES or pa.types.is_timestamp(kind)
