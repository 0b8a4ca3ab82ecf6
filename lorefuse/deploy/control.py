"""Model control over gRPC: load, unload, what is ready, and inference of one version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.client.admin import VARIABLE, admin_headers
from lorefuse.core.errors import DeployError, OverdueError, UsageError
from lorefuse.export.wire import to_infer_input

LOAD_TIMEOUT_S, INFER_TIMEOUT_S = 120.0, 30.0


class Control:
    """A connection for whoever runs the server; applications use `lorefuse.client.Client`.

    Args:
        url: gRPC address, ``host:port``.
        admin_key: What the server asks of whoever loads models or lists them; empty: nothing.
    """

    def __init__(self, url: str, admin_key: str = "") -> None:
        import tritonclient.grpc as triton

        self.url = url
        self._admin = admin_headers(admin_key)
        self._triton = triton.InferenceServerClient(url)

    def is_live(self) -> bool:
        """Tell whether the server answers at all, which it does once its models are loaded or have failed to."""
        from tritonclient.utils import InferenceServerException

        try:
            return bool(self._triton.is_server_live(client_timeout=1.0))
        except InferenceServerException:
            return False

    def versions(self) -> dict[str, list[int]]:
        """Return the ready versions of each model.

        Raises:
            UsageError: The server asks for another key.
            DeployError: It does not say.
        """
        from tritonclient.utils import InferenceServerException

        try:
            index = self._triton.get_model_repository_index(self._admin, client_timeout=5.0).models
        except InferenceServerException as error:
            self._check_admitted(error)
            raise DeployError("Triton does not list its models.", got=error.message()) from None
        ready: dict[str, list[int]] = {}
        for entry in index:
            if entry.state == "READY":
                ready.setdefault(entry.name, []).append(int(entry.version))
        return {name: sorted(numbers) for name, numbers in sorted(ready.items())}

    def steps(self, name: str) -> list[str]:
        """Return the models that a loaded ensemble asks, in order; none where it is no ensemble or not loaded."""
        from tritonclient.utils import InferenceServerException

        try:
            config = self._triton.get_model_config(name, client_timeout=5.0).config
        except InferenceServerException:
            return []
        return [step.model_name for step in config.ensemble_scheduling.step]

    def load(self, name: str) -> None:
        """Load what the repository now says about a model; on failure the versions loaded before go on.

        Raises:
            UsageError: The server asks for another key.
            OverdueError: It takes too long.
            DeployError: Triton refused, with its reason in one line.
        """
        from tritonclient.utils import InferenceServerException

        try:
            self._triton.load_model(name, self._admin, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            self._check_admitted(error)
            text, said = f"Triton could not load {name}.", short(error.message())
            if _is_overdue(error):
                raise OverdueError(text, model=name, expected=f"it within {LOAD_TIMEOUT_S:g} s", got=said) from None
            raise DeployError(text, got=said) from None

    def unload(self, name: str) -> None:
        """Unload all versions of a model.

        Raises:
            UsageError: The server asks for another key.
            DeployError: Triton refused.
        """
        from tritonclient.utils import InferenceServerException

        try:
            self._triton.unload_model(name, self._admin, client_timeout=LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            self._check_admitted(error)
            raise DeployError(f"Triton could not unload {name}.", got=short(error.message())) from None

    def triton_version(self) -> str:
        """Return the server's version, e.g. ``2.51.0``; empty where it does not answer."""
        from tritonclient.utils import InferenceServerException

        try:
            return str(self._triton.get_server_metadata(client_timeout=2.0).version)
        except InferenceServerException:
            return ""

    def infer(
        self,
        name: str,
        inputs: Mapping[str, NDArray[Any]],
        version: int | None = None,
        timeout_s: float = INFER_TIMEOUT_S,
    ) -> dict[str, NDArray[Any]]:
        """Run one inference of one version.

        Returns:
            All outputs by name; texts as object arrays of bytes.

        Raises:
            OverdueError: The model did not answer in time, or takes no more requests.
            DeployError: It refused, or there is no such model.
        """
        from tritonclient.utils import InferenceServerException

        try:
            result = self._triton.infer(
                name,
                [to_infer_input(key, array) for key, array in inputs.items()],
                model_version=str(version) if version else "",
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            text, said = f"{name} {version or ''} gave no answer.", short(error.message())
            if _is_overdue(error):
                raise OverdueError(text, model=name, expected=f"one within {timeout_s:g} s", got=said) from None
            raise DeployError(text, got=said) from None
        return {output.name: np.asarray(result.as_numpy(output.name)) for output in result.get_response().outputs}

    def _check_admitted(self, error: Any) -> None:
        """Tell a wrong key from everything else: no version is to blame for it."""
        if "restricted" in short(error.message()):
            raise UsageError(
                "Triton does not take orders from here.",
                expected=f"the key that the server at {self.url} was started with",
                got="another key" if self._admin else "no key",
                fix=f"set {VARIABLE} to that key, here or where the server is started",
            )


def _is_overdue(error: Any) -> bool:
    return "DEADLINE_EXCEEDED" in str(error.status()) or "Exceeds maximum queue size" in str(error.message())


def short(message: str | None) -> str:
    """Return the first line of an error of Triton's, without a stack trace."""
    lines = (message or "no reason given").strip().splitlines()
    return lines[0][:400]
