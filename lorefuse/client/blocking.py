"""The client for threads."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.client import answers
from lorefuse.client.admin import admin_key
from lorefuse.client.answers import Filters, NewItemScore, Recommendation
from lorefuse.client.connection import (
    EMBED,
    FEATURES,
    RANKER,
    RECOMMEND,
    ServerTarget,
    Tls,
    exception_of,
    outputs_of,
    request_of,
)
from lorefuse.client.shared import SharedBatch
from lorefuse.client.tracing import trace_metadata
from lorefuse.core.settings import settings
from lorefuse.export.wire import Content, content_of, text_array


class Client:
    """A connection to Triton; safe to share between threads.

    Args:
        url: gRPC address, ``host:port``; default: `LOREFUSE_TRITON_URL`.
        timeout_s: Deadline of a call, all its retries included.
        max_retries: Tries after the first where the server is not there, or a gateway refuses; nothing else is retried.
        tls: Certificates, where the server (or a gateway before it) speaks TLS.
        privacy_key: Key under which users' ids become pseudonyms before they leave this process; None:
            `LOREFUSE_PRIVACY_KEY` where it is set; empty: ids go out as they are. The served model refuses the other.

    Raises:
        UsageError: The deadline is not positive, or a certificate is missing.
        ConfigError: The key of the pseudonyms is too short.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout_s: float = 10.0,
        max_retries: int = 3,
        tls: Tls | None = None,
        privacy_key: str | None = None,
    ) -> None:
        import grpc  # type: ignore[import-untyped]
        from tritonclient.grpc import service_pb2_grpc

        self._names = answers.names_of(privacy_key)
        self._target = ServerTarget.of(url, timeout_s, max_retries, tls)
        self._channel, self._failure = self._target.channel(grpc), grpc.RpcError
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._target.url

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
        if "_triton" in self.__dict__:
            self._triton.close()

    @functools.cached_property
    def _triton(self) -> Any:
        """A connection for what is not inference."""
        import tritonclient.grpc as triton

        return triton.InferenceServerClient(self._target.url, **self._target.tls_options)

    def recommend(
        self,
        user_id: str | int,
        k: int = 10,
        exclude_seen: bool = True,
        *,
        candidates: Sequence[str | int] | None = None,
        filters: Filters | None = None,
        context: Mapping[str, str] | None = None,
        context_vector: Sequence[float] | NDArray[Any] | None = None,
        timeout_s: float | None = None,
    ) -> Recommendation:
        """Return the k best items for a user; somebody unknown gets what suits a newcomer.

        Args:
            user_id: Raw id.
            k: Number of items, from 1 to the version's `serving.max_k`.
            exclude_seen: Leave out what the user already has in the training data.
            candidates: Rank these item ids alone; unknown and repeated ones do not count, [] gives no items.
            filters: Column → value or alternatives, e.g. ``{"genres": ["Drama", "War"], "decade": "1990s"}``: an item
                must fit every column. Or texts, which can also refuse: ``["genres!=Horror"]``.
            context: What is known about the user now, e.g. ``{"gender": "F"}``; stands before what the store knows.
            context_vector: What the user asked just now, as the model's encoder gives it, (D,): for a model that was
                trained with `data.source.context_text`. ``client.score_text("red shoes").vector`` is such a vector.
            timeout_s: Deadline of this call.

        Raises:
            UsageError: k is out of range, the user id is empty, or there is no such column or vector.
            UnreachableError: The server is not there, did not answer in time, or has no model.
        """
        inputs = answers.recommend_inputs(
            user_id, k, exclude_seen, candidates, filters, context, context_vector, self._names
        )
        return answers.recommendation(self._ask(RECOMMEND, inputs, timeout_s))

    def score_text(
        self, text: str, user_id: str | int | None = None, *, timeout_s: float | None = None
    ) -> NewItemScore:
        """Score an item that nobody has seen from its words alone; needs a version made with `serving.embed: true`.

        Args:
            text: What is known about the item, best in the words of the catalogue's texts.
            user_id: Raw id; None: somebody unknown.
            timeout_s: Deadline of this call.

        Raises:
            UsageError: The text is empty or too long.
            UnreachableError: The server is not there, did not answer in time, or its version carries no encoder.
        """
        return answers.new_item_score(self._ask(EMBED, answers.new_item_inputs(text, user_id, self._names), timeout_s))

    def score(self, inputs: Mapping[str, NDArray[Any]], *, timeout_s: float | None = None) -> NDArray[np.float32]:
        """Score rows of user and item tensors.

        Args:
            inputs: Arrays named and typed as in `contract.Tensor`, B rows each.
            timeout_s: Deadline of this call.

        Returns:
            Scores (B,), float32.

        Raises:
            UsageError: The server's ranker wants other inputs.
            UnreachableError: The server is not there, did not answer in time, or has no model.
        """
        scores: NDArray[np.float32] = self._infer(RANKER, inputs, timeout_s)["score"].reshape(-1)
        return scores

    def shared_batch(self, max_bytes: int = 16 << 20, *, key: str | None = None) -> SharedBatch:
        """Return a place for large batches that a server on this machine reads without a copy over the wire.

        Args:
            max_bytes: Size of the region: the inputs of the largest batch and its scores.
            key: The server's administrative key; None: that of the home's own server, or `LOREFUSE_TRITON_ADMIN_KEY`.

        Raises:
            UsageError: There is not that much shared memory.
            UnreachableError: The server is not there, does not see this machine's memory, or asks for another key.
        """
        return SharedBatch(self._triton, self._target, max_bytes, admin_key() if key is None else key)

    def user_tensors(self, user_id: str | int) -> dict[str, NDArray[Any]]:
        """Return the ranker's user tensors for one user, (1, width) each, as the server reads them."""
        got = self._infer(FEATURES, {"user_id": text_array(answers.user_text(user_id, self._names))}, None)
        return {name: got[name] for name in answers.USER_TENSORS if name in got}

    def _infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], timeout_s: float | None
    ) -> dict[str, NDArray[Any]]:
        tensors = {name: content_of(name, array) for name, array in inputs.items()}
        return outputs_of(self._ask(model, tensors, timeout_s))

    def _ask(self, model: str, tensors: Mapping[str, Content], timeout_s: float | None) -> Any:
        request, attempts = request_of(model, tensors), self._target.attempts(timeout_s)
        metadata = trace_metadata()
        while True:
            try:
                return self._stub.ModelInfer(request, timeout=attempts.left_s, metadata=metadata)
            except self._failure as error:
                pause_s = attempts.pause_s(exception_of(error), model)
            time.sleep(pause_s)


def is_up(url: str | None = None, timeout_s: float = 1.0) -> bool:
    """Tell whether a Triton server answers."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    with contextlib.closing(triton.InferenceServerClient(url or settings().triton_url)) as connection:
        try:
            return bool(connection.is_server_ready(client_timeout=timeout_s))
        except InferenceServerException:
            return False
