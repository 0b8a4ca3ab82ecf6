"""Word of a failed run: one line in the log, and a message to a webhook where one is named."""

from __future__ import annotations

import logging
import os

WEBHOOK_VARIABLE = "LOREFUSE_FAILURE_WEBHOOK"
SUCCESS_STATES = ("SUCCEEDED", "COMPLETE", "CACHED")
"""The API names the first; a backend that reads its metadata store hands a step the others."""
TIMEOUT_S = 10
_log = logging.getLogger(__name__)


def report_failure(pipeline: str, run_name: str, run_id: str, state: str, message: str = "") -> dict[str, str | bool]:
    """Report a run that did not succeed; say nothing of one that did.

    The webhook gets ``{"text": …}`` by POST, which Slack, Mattermost and others read. A webhook that does not answer is
    a warning, no error: it must not hide the failure that it was told of.

    Args:
        pipeline: Name of the pipeline.
        run_name: Name of the run.
        run_id: Its id.
        state: Final state of the steps, as the backend names it.
        message: The backend's own words, where it has any.

    Returns:
        ``failed``, ``told`` (a webhook took it) and the ``text``, empty for a run that succeeded.
    """
    if state.upper() in SUCCESS_STATES:
        return {"failed": False, "told": False, "text": ""}
    text = f"{pipeline}: run {run_name} ({run_id}) ended as {state or 'unknown'}" + (f": {message}" if message else "")
    return {"failed": True, "told": _post(text), "text": text}


def _post(text: str) -> bool:
    url = os.environ.get(WEBHOOK_VARIABLE, "")
    if not url:
        return False
    import requests

    try:
        requests.post(url, json={"text": text}, timeout=TIMEOUT_S).raise_for_status()
    except requests.RequestException as error:
        # The address is a secret and stands in most of requests' messages.
        _log.warning("the failure webhook did not take the message (%s)", type(error).__name__)
        return False
    return True
