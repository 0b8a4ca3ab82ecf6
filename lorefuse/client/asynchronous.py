"""The client for asyncio: the same calls as `Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.client import answers
from lorefuse.client.answers import Filters, NewItemScore, Recommendation
from lorefuse.client.connection import EMBED, RANKER, RECOMMEND, ServerTarget, Tls, exception_of, outputs_of, request_of
from lorefuse.client.tracing import trace_metadata
from lorefuse.export.wire import Content, content_of


class AsyncClient:
    """A connection to Triton for one event loop; make it inside a coroutine.

    ::

        async with AsyncClient("127.0.0.1:8601") as client:
            answers = await asyncio.gather(*(client.recommend(user) for user in users))

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
        import grpc.aio  # type: ignore[import-untyped]
        from tritonclient.grpc import service_pb2_grpc

        self._names = answers.names_of(privacy_key)
        self._target = ServerTarget.of(url, timeout_s, max_retries, tls)
        self._channel, self._failure = self._target.channel(grpc.aio), grpc.RpcError
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def recommend(
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
        """Return the k best items for a user; arguments and errors as `Client.recommend`."""
        inputs = answers.recommend_inputs(
            user_id, k, exclude_seen, candidates, filters, context, context_vector, self._names
        )
        return answers.recommendation(await self._ask(RECOMMEND, inputs, timeout_s))

    async def score_text(
        self, text: str, user_id: str | int | None = None, *, timeout_s: float | None = None
    ) -> NewItemScore:
        """Score an item that nobody has seen from its words; arguments and errors as `Client.score_text`."""
        return answers.new_item_score(
            await self._ask(EMBED, answers.new_item_inputs(text, user_id, self._names), timeout_s)
        )

    async def score(self, inputs: Mapping[str, NDArray[Any]], *, timeout_s: float | None = None) -> NDArray[np.float32]:
        """Score rows of user and item tensors; arguments and errors as `Client.score`."""
        scores: NDArray[np.float32] = (await self._infer(RANKER, inputs, timeout_s))["score"].reshape(-1)
        return scores

    async def _infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], timeout_s: float | None
    ) -> dict[str, NDArray[Any]]:
        tensors = {name: content_of(name, array) for name, array in inputs.items()}
        return outputs_of(await self._ask(model, tensors, timeout_s))

    async def _ask(self, model: str, tensors: Mapping[str, Content], timeout_s: float | None) -> Any:
        request, attempts = request_of(model, tensors), self._target.attempts(timeout_s)
        metadata = trace_metadata()
        while True:
            try:
                return await self._stub.ModelInfer(request, timeout=attempts.left_s, metadata=metadata)
            except self._failure as error:
                pause_s = attempts.pause_s(exception_of(error), model)
            await asyncio.sleep(pause_s)
