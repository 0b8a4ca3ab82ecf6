"""Calls to the Kubeflow Pipelines API: retried where that may help, and explained where it does not."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import kfp_server_api  # type: ignore[import-untyped]
import urllib3

from lorefuse.core.errors import LorefuseError, UnreachableError, UsageError

T = TypeVar("T")
RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
SIGNED_OUT_STATUS = frozenset({301, 302, 303, 307, 308, 401})
"""A gateway that wants a login redirects to its page; the client does not follow."""


@dataclass(frozen=True)
class Retry:
    """How often and how patiently a call is tried again.

    Attributes:
        num_attempts: Tries in all.
        first_delay_s: Pause before the second; it doubles from then on.
    """

    num_attempts: int = 4
    first_delay_s: float = 0.5


def call(
    what: str,
    host: str,
    function: Callable[[], T],
    retry: Retry,
    *,
    recover: Callable[[], T | None] | None = None,
) -> T:
    """Call the API; try again what a busy or restarting server may answer later.

    Args:
        what: What was asked for, in words: "create the run".
        host: Named in the errors.
        function: The call.
        retry: How often.
        recover: Looks for what a lost answer may have left done, before a change is asked for again.

    Returns:
        What the API returned.

    Raises:
        UnreachableError: No answer, or no good one, after all tries.
        UsageError: The server refused: not signed in, not allowed, a name that is taken, a wrong value.
    """
    for attempt in range(retry.num_attempts):
        if attempt:
            time.sleep(retry.first_delay_s * 2 ** (attempt - 1))
        try:
            with quiet():
                found = recover() if recover is not None and attempt else None
                return function() if found is None else found
        except kfp_server_api.ApiException as error:
            last: LorefuseError = _explain(what, host, error)
            if error.status not in RETRIED_STATUS:
                raise last from None
        except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
            last = UnreachableError(
                f"The Kubeflow Pipelines API {host} does not answer (to {what}).",
                got=f"{type(error).__name__}: {_first_line(error)}",
                fix="check --host; from outside the cluster: "
                "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888 --address 127.0.0.1",
            )
        except OSError as error:
            raise UsageError(f"A file is missing (to {what}).", got=str(error), fix="check --token-file") from None
    raise last


def _explain(what: str, host: str, error: kfp_server_api.ApiException) -> LorefuseError:
    said = server_message(error)
    if error.status in SIGNED_OUT_STATUS:
        return UsageError(
            f"{host} does not know you (to {what}).",
            expected="a valid bearer token",
            got=f"{error.status} {said}",
            fix="set LOREFUSE_KFP_TOKEN, or name a file: --token-file",
        )
    if error.status == 403:
        return UsageError(
            f"You may not {what} on {host}.",
            expected="a token whose account has that right in the namespace",
            got=f"403 {said}",
            fix="ask for the right, or name the namespace that is yours: --namespace",
        )
    if error.status == 404:
        return UsageError(
            f"{host} knows nothing of what was asked for (to {what}).",
            expected="the address of a Kubeflow Pipelines 2 API, and ids that it gave out",
            got=f"404 {said}",
            fix="check --host and the id",
        )
    if error.status == 409:
        return UsageError(
            f"The name is taken (to {what}).",
            got=f"409 {said}",
            fix="choose another: --version-name or --pipeline-name",
        )
    if error.status is not None and 400 <= error.status < 500 and error.status != 429:
        return UsageError(f"{host} refused to {what}.", got=f"{error.status} {said}")
    return UnreachableError(
        f"{host} could not {what}.", got=f"{error.status} {said}", fix="look at the API server's log, then try again"
    )


def server_message(error: kfp_server_api.ApiException) -> str:
    """Return the server's own words: the gateway's JSON, the upload handler's JSON, or the start of its text."""
    body = error.body or ""
    try:
        content = json.loads(body)
    except ValueError:
        return (body.strip() or str(error.reason)).splitlines()[0][:300]
    if isinstance(content, dict):
        for key in ("message", "error_message", "error"):
            if isinstance(content.get(key), str):
                return str(content[key])[:600]
    return str(error.reason)


def _first_line(error: Exception) -> str:
    lines: list[str] = str(error).splitlines()
    return lines[0][:300] if lines else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the kfp client's own prints and warnings off the terminal: what matters is said once, by us."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def state_of(message: Any) -> str:
    """Return a run's or task's state as text; a state that the server has not set yet is ``PENDING``."""
    state = str(message.state or "PENDING")
    return "PENDING" if state == "RUNTIME_STATE_UNSPECIFIED" else state
