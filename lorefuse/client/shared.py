"""Large batches through shared memory, for a client on the server's own machine."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Mapping
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.client.admin import admin_headers
from lorefuse.client.connection import RANKER, ServerTarget, explained
from lorefuse.client.tracing import trace_metadata
from lorefuse.core.errors import UsageError
from lorefuse.export.wire import triton_dtype

_ALIGNMENT = 64
_RELEASE_S = 0.005


class SharedBatch:
    """A region of shared memory, registered with the server, in which rows are scored. Close it, or use `with`.

    ::

        with client.shared_batch() as batch:
            scores = batch.score(inputs)

    One batch at a time; other threads wait. A server that was restarted gets the region registered anew.
    """

    def __init__(self, triton: Any, target: ServerTarget, max_bytes: int, key: str) -> None:
        self._triton, self._admin = triton, admin_headers(key)
        self._target = target
        self._lock = threading.Lock()
        self._name = f"lorefuse-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        try:
            self._memory = SharedMemory(self._name, create=True, size=max_bytes)
        except (OSError, ValueError) as error:
            raise UsageError("There is no room for the shared region.", got=str(error), fix="ask for less") from None
        self._bytes = np.ndarray((self._memory.size,), np.uint8, self._memory.buf)
        try:
            self._register()
        except BaseException:
            self._free()
            raise

    def __enter__(self) -> SharedBatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the region back from the server and free it."""
        from tritonclient.utils import InferenceServerException

        # Triton only marks a region that a request still holds, which an answered one does for some milliseconds.
        timeout_s = self._target.timeout_s
        deadline_s = time.monotonic() + timeout_s
        with contextlib.suppress(InferenceServerException):
            while time.monotonic() < deadline_s:
                self._triton.unregister_system_shared_memory(
                    self._name, self._admin, client_timeout=self._target.timeout_s
                )
                if self._name not in self._triton.get_system_shared_memory_status(headers=self._admin).regions:
                    break
                time.sleep(_RELEASE_S)
        self._free()

    def score(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Score rows of user and item tensors; arguments and errors as `Client.score`.

        Raises:
            UsageError: Also where the batch does not fit into the region.
        """
        import tritonclient.grpc as triton
        from tritonclient.utils import InferenceServerException

        num_rows = len(next(iter(inputs.values()))) if inputs else 0
        with self._lock:
            request, start = [], 0
            for name, array in inputs.items():
                tensor = triton.InferInput(name, list(array.shape), triton_dtype(name, array.dtype))
                self._write(array, start)
                tensor.set_shared_memory(self._name, array.nbytes, start)
                request.append(tensor)
                start = _aligned(start + array.nbytes)
            size = num_rows * np.dtype(np.float32).itemsize
            self._check(start + size)
            output = triton.InferRequestedOutput("score")
            output.set_shared_memory(self._name, size, start)
            try:
                self._infer(request, output)
            except InferenceServerException as error:
                raise explained(error, RANKER, self._target.url, self._target.timeout_s) from None
            return self._bytes[start : start + size].view(np.float32).copy()

    def _infer(self, request: list[Any], output: Any) -> None:
        from tritonclient.utils import InferenceServerException

        more = {"outputs": [output], "client_timeout": self._target.timeout_s, "headers": dict(trace_metadata())}
        try:
            self._triton.infer(RANKER, request, **more)
        except InferenceServerException as error:
            if "shared memory region" not in str(error.message()):
                raise
            self._register()  # the server is another one than before
            self._triton.infer(RANKER, request, **more)

    def _write(self, array: NDArray[Any], start: int) -> None:
        self._check(start + array.nbytes)
        self._bytes[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def _check(self, size: int) -> None:
        if size > len(self._bytes):
            raise UsageError(
                "The batch does not fit into the shared region.",
                expected=f"at most {len(self._bytes):,} bytes",
                got=f"{size:,}",
                fix="a larger shared_batch(max_bytes=…), or fewer rows",
            )

    def _register(self) -> None:
        from tritonclient.utils import InferenceServerException

        try:
            self._triton.register_system_shared_memory(
                self._name,
                f"/{self._name}",
                self._memory.size,
                headers=self._admin,
                client_timeout=self._target.timeout_s,
            )
        except InferenceServerException as error:
            raise explained(error, "shared memory", self._target.url, self._target.timeout_s) from None

    def _free(self) -> None:
        del self._bytes
        self._memory.close()
        self._memory.unlink()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
