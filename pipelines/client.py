"""A Kubeflow Pipelines API server: `kfp.Client` with timeouts, retries that create nothing twice, and clear errors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import urllib3
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from lorefuse.core.errors import UsageError
from pipelines.client_errors import Retry, call

TOKEN_VARIABLE = "LOREFUSE_KFP_TOKEN"  # noqa: S105  (the name of a variable)
TIMEOUT_S = (10.0, 60.0)
"""Seconds to connect and to answer; the kfp client itself would wait for ever."""
EQUALS = 1
PAGE_SIZE = 100


class _Client(kfp.Client):  # type: ignore[misc]
    """kfp's client without its context file, its endless waits and its hidden retries."""

    # Written by other tools for other clusters: it must not decide where this run goes.
    _LOCAL_KFP_CONTEXT = ""
    timeout_s = TIMEOUT_S

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """Ask once; the constructor comes here first, so this is also where timeouts are set."""
        self.harden()
        return self._healthz_api.healthz_service_get_healthz()

    def spoke_json(self) -> bool:
        """Return whether the last answer was a JSON object; any web page passes for an empty answer otherwise."""
        try:
            return isinstance(json.loads(self._healthz_api.api_client.last_response.data), dict)
        except ValueError:
            return False

    def harden(self) -> None:
        """Give every request a timeout, and leave retries and redirects to `call`."""
        rest = self._healthz_api.api_client.rest_client
        send = kfp_server_api.rest.RESTClientObject.request

        def request(method: str, url: str, *, _request_timeout: Any = None, **more: Any) -> Any:
            return send(rest, method, url, _request_timeout=_request_timeout or self.timeout_s, **more)

        rest.request = request
        rest.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(False)


class Cluster:
    """One API server, signed in.

    Args:
        host: Its address.
        namespace: Namespace on a multi-user server.
        token_path: File with the bearer token, read anew at each request; else LOREFUSE_KFP_TOKEN, else none.
        retry: How often a call is tried.

    Raises:
        UnreachableError: It does not answer.
        UsageError: The token is missing or refused, or a multi-user server was given no namespace.
    """

    def __init__(
        self,
        host: str,
        namespace: str | None = None,
        token_path: Path | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.host, self.namespace, self.retry = host.rstrip("/"), namespace, retry or Retry()
        access = _access(token_path)
        if access and not _is_private(self.host):
            print(f"warning: the token travels to {self.host} unencrypted", file=sys.stderr)

        self.client = self._call("sign in", lambda: _Client(host=self.host, **access))
        health = self._call("answer", self.client.get_kfp_healthz)
        if not self.client.spoke_json():
            raise UsageError(
                f"{self.host} is no Kubeflow Pipelines API: it answers with something else than JSON.",
                fix="name the API's address (service ml-pipeline, port 8888), or the UI's root that leads to it",
            )
        if getattr(health, "multi_user", None) and not namespace:
            raise UsageError(f"{self.host} has many users.", expected="your namespace", fix="name it: --namespace")

    def _call(self, what: str, function: Any, recover: Any = None) -> Any:
        return call(what, self.host, function, self.retry, recover=recover)

    def find_experiment(self, name: str) -> str | None:
        """Return the id of the experiment of that name, or None."""

        def ask() -> Any:
            return self.client.list_experiments(
                page_size=PAGE_SIZE, filter=_equals("display_name", name), namespace=self.namespace
            )

        found = [entry for entry in self._call("list experiments", ask).experiments or [] if entry.display_name == name]
        return str(found[0].experiment_id) if found else None

    def create_experiment(self, name: str) -> str:
        """Create the experiment and return its id; one that exists already is taken."""
        create = self.client.create_experiment
        return str(self._call("create the experiment", lambda: create(name, namespace=self.namespace)).experiment_id)

    def upload(self, path: Path, name: str, version: str | None, content_name: str) -> tuple[str, str, str, bool]:
        """Upload a compiled pipeline, or a new version of it.

        Args:
            path: The YAML.
            name: Name of the pipeline.
            version: Name of the version; a name that is taken is an error.
            content_name: Name of the version where `version` is None; one of that name has the same content, so it is
                taken as it is.

        Returns:
            Pipeline id, version id, the version's name, and whether anything was uploaded.

        Raises:
            UsageError: A version called `version` exists.
        """
        pipeline_id = self._find_pipeline(name)
        if pipeline_id is None:
            made = self._call(
                "upload the pipeline",
                lambda: self.client.upload_pipeline(str(path), name, None, self.namespace),
                recover=lambda: self._client_pipeline(name),
            )
            pipeline_id = str(made.pipeline_id)
        wanted = version or content_name
        existing = self._find_version(pipeline_id, wanted)
        if existing is not None and version is not None:
            raise UsageError(
                f"Pipeline {name} has a version {version} already.",
                fix="choose another --version-name, or leave it out: equal content is uploaded once",
            )
        if existing is not None:
            return pipeline_id, str(existing.pipeline_version_id), wanted, False
        made = self._call(
            "upload the version",
            lambda: self.client.upload_pipeline_version(str(path), wanted, pipeline_id=pipeline_id),
            recover=lambda: self._client_version(pipeline_id, wanted),
        )
        return pipeline_id, str(made.pipeline_version_id), wanted, True

    def _find_pipeline(self, name: str) -> str | None:
        found = self._call("list pipelines", lambda: self._client_pipeline(name))
        return None if found is None else str(found.pipeline_id)

    def _client_pipeline(self, name: str) -> Any:
        answer = self.client.list_pipelines(
            page_size=PAGE_SIZE, filter=_equals("display_name", name), namespace=self.namespace
        )
        return next((entry for entry in answer.pipelines or [] if entry.display_name == name), None)

    def _find_version(self, pipeline_id: str, name: str) -> Any:
        return self._call("list versions", lambda: self._client_version(pipeline_id, name))

    def _client_version(self, pipeline_id: str, name: str) -> Any:
        answer = self.client.list_pipeline_versions(
            pipeline_id, page_size=PAGE_SIZE, filter=_equals("display_name", name)
        )
        return next((entry for entry in answer.pipeline_versions or [] if entry.display_name == name), None)

    def create_run(self, experiment_id: str, name: str, **content: Any) -> str:
        """Create a run and return its id. A run of that name whose answer was lost is found again, not made twice."""

        def recover() -> Any:
            answer = self.client.list_runs(
                page_size=PAGE_SIZE, experiment_id=experiment_id, filter=_equals("display_name", name)
            )
            return next((entry for entry in answer.runs or [] if entry.display_name == name), None)

        made = self._call("create the run", lambda: self.client.run_pipeline(experiment_id, name, **content), recover)
        return str(made.run_id)

    def create_recurring_run(self, experiment_id: str, name: str, **content: Any) -> str:
        """Create a schedule and return its id.

        Raises:
            UsageError: The experiment has a schedule of that name: two would run everything twice.
        """

        def find() -> Any:
            answer = self.client.list_recurring_runs(
                page_size=PAGE_SIZE, experiment_id=experiment_id, filter=_equals("display_name", name)
            )
            return next((entry for entry in answer.recurring_runs or [] if entry.display_name == name), None)

        if self._call("list recurring runs", find) is not None:
            raise UsageError(
                f"There is a recurring run {name} already.",
                fix="choose another --name, or remove the old one in the UI first",
            )
        create = self.client.create_recurring_run
        made = self._call("create the recurring run", lambda: create(experiment_id, name, **content), find)
        return str(made.recurring_run_id)

    def get_run(self, run_id: str) -> Any:
        """Return the run as the server tells it: state, error, tasks."""
        return self._call("look at the run", lambda: self.client.get_run(run_id))

    def run_url(self, run_id: str) -> str:
        """Return the run's page in the UI, which stands behind the same address on most installations."""
        return f"{self.host}/#/runs/details/{run_id}"


def _is_private(host: str) -> bool:
    """Return whether a token may go to this address: it is encrypted, this machine's, or a cluster's own."""
    url = urlsplit(host)
    name = url.hostname or ""
    return url.scheme == "https" or name in ("localhost", "127.0.0.1", "::1") or name.endswith((".svc", ".local"))


def _access(token_path: Path | None) -> dict[str, Any]:
    """Return kfp's arguments for the token: a file is read at each request, since tokens there are rotated."""
    if token_path is not None:
        try:
            is_empty = not token_path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The token cannot be read from {token_path}.", got=str(error)) from None
        if is_empty:
            raise UsageError(f"The token's file {token_path} is empty.")
        return {"credentials": ServiceAccountTokenVolumeCredentials(str(token_path))}
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return {"existing_token": token} if token else {}


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": key, "stringValue": value}]})
