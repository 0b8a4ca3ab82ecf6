"""End of a run → word of its failure."""

from kfp import dsl

from components.base import step


@step
def report_failure(pipeline: str, run_name: str, run_id: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Say that a run failed: in the log, and to LOREFUSE_FAILURE_WEBHOOK where it is set.

    Args:
        pipeline: Name of the pipeline.
        run_name: Name of the run.
        run_id: Its id.
        status: How the steps ended; the backend fills it in.
    """
    from lorefuse import steps

    steps.report_failure(pipeline, run_name, run_id, status.state, status.error_message or "")
