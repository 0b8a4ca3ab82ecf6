"""A light client of the served models: no torch, no pandas, one connection.

::

    from lorefuse.client import Client

    for item in Client().recommend("42", k=10).items:
        print(item.title, item.score)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.errors import UnreachableError, UsageError
from lorefuse.export.wire import text_array, to_infer_input
from lorefuse.settings import settings

_RANKER, _FEATURES, _RECOMMEND = "ranker", "features", "recommend"
_RETRY_PAUSE_S, _RETRY_GROWTH = 0.05, 2.0


@dataclass(frozen=True)
class ScoredItem:
    """One recommended item.

    Attributes:
        item_id: Raw id.
        title: What people read.
        score: Probability of a like, or the predicted value for regression.
    """

    item_id: str
    title: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """The answer for one user.

    Attributes:
        items: Best first; fewer than asked for where the catalogue has no more.
        liked_titles: What the user liked, newest first; empty for somebody without history.
        model_version: Version that answered.
        data_cutoff: Latest training timestamp it knows, ISO 8601 in UTC.
    """

    items: list[ScoredItem]
    liked_titles: list[str]
    model_version: str
    data_cutoff: str


class Client:
    """A connection to Triton; safe to share between threads.

    Args:
        url: gRPC address, ``host:port``; default: `LOREFUSE_TRITON_URL`.
        timeout_s: Deadline of a call, all its retries included.
        max_retries: Tries after the first where the server is not there or its queue is full; nothing else is retried.

    Raises:
        UsageError: The deadline is not positive.
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 10.0, max_retries: int = 3) -> None:
        import tritonclient.grpc as triton

        if not timeout_s > 0:
            raise UsageError("The client's deadline must be positive.", got=f"timeout_s={timeout_s}")
        self.url = url or settings().triton_url
        self.timeout_s = timeout_s
        self.max_retries = max_retries
        self._triton = triton.InferenceServerClient(self.url)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._triton.close()

    def recommend(self, user_id: str, k: int = 10, exclude_seen: bool = True) -> Recommendation:
        """Return the k best items for a user; somebody unknown gets what suits a newcomer.

        Args:
            user_id: Raw id.
            k: Number of items, from 1 to the version's `serving.max_k`.
            exclude_seen: Leave out what the user already has in the training data.

        Raises:
            UsageError: k is out of range, or the user id is empty.
            UnreachableError: The server is not there, did not answer in time, or has no model.
        """
        if not user_id:
            raise UsageError("The user id is empty.", expected="a user_id of the dataset, or any new one")
        if k < 1:
            raise UsageError("k must be at least 1.", got=str(k))
        inputs = {
            "user_id": text_array(user_id),
            "k": np.array([[min(k, np.iinfo(np.int32).max)]], dtype=np.int32),
            "exclude_seen": np.array([[exclude_seen]], dtype=np.bool_),
        }
        got = self._infer(_RECOMMEND, inputs)
        rows = zip(got["item_id"][0], got["title"][0], got["score"][0], strict=True)
        return Recommendation(
            # An empty id is padding.
            items=[ScoredItem(i.decode(), title.decode(), float(score)) for i, title, score in rows if i],
            liked_titles=[title.decode() for title in got["liked_title"][0] if title],
            model_version=got["model_version"][0, 0].decode(),
            data_cutoff=got["data_cutoff"][0, 0].decode(),
        )

    def score(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Score rows of user and item tensors.

        Args:
            inputs: Arrays named and typed as in `contract.Tensor`, B rows each.

        Returns:
            Scores (B,), float32.

        Raises:
            UsageError: The server's ranker wants other inputs.
            UnreachableError: The server is not there, did not answer in time, or has no model.
        """
        scores: NDArray[np.float32] = self._infer(_RANKER, inputs)["score"].reshape(-1)
        return scores

    def user_tensors(self, user_id: str) -> dict[str, NDArray[Any]]:
        """Return the ranker's user tensors for one user, (1, width) each, as the server reads them."""
        got = self._infer(_FEATURES, {"user_id": text_array(user_id)})
        return {
            name: got[name] for name in ("user_fields", "user_numeric", "user_interest", "user_history") if name in got
        }

    def _infer(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        from tritonclient.utils import InferenceServerException

        request = [to_infer_input(name, array) for name, array in inputs.items()]
        end_s, pause_s = time.monotonic() + self.timeout_s, _RETRY_PAUSE_S
        for attempt in range(self.max_retries + 1):
            try:
                result = self._triton.infer(model, request, client_timeout=max(0.001, end_s - time.monotonic()))
                break
            except InferenceServerException as error:
                unavailable = "UNAVAILABLE" in str(error.status()) and "unknown model" not in str(error.message())
                if unavailable and attempt < self.max_retries and time.monotonic() + pause_s < end_s:
                    time.sleep(pause_s)
                    pause_s *= _RETRY_GROWTH
                    continue
                raise self._explained(error, model) from None
        return {output.name: np.asarray(result.as_numpy(output.name)) for output in result.get_response().outputs}

    def _explained(self, error: Any, model: str) -> UnreachableError | UsageError:
        status, message = str(error.status()), str(error.message() or "no reason given").strip().splitlines()[0][:400]
        if "unknown model" in message or "NOT_FOUND" in status:
            return UnreachableError(f"{self.url} serves no model {model}.", got=message, fix="train one: lorefuse run")
        if "INVALID_ARGUMENT" in status:
            return UsageError(f"{model} refused the request.", got=message)
        if "DEADLINE_EXCEEDED" in status:
            return UnreachableError(f"{self.url} did not answer within {self.timeout_s:g} s.", got=message)
        if "UNAVAILABLE" in status:
            return UnreachableError(f"Triton does not answer at {self.url}.", got=message, fix="make up")
        return UnreachableError(f"{model} at {self.url} failed.", got=message, fix="make down, then make up")


def is_up(url: str | None = None, timeout_s: float = 1.0) -> bool:
    """Tell whether a Triton server answers."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    with contextlib.closing(triton.InferenceServerClient(url or settings().triton_url)) as connection:
        try:
            return bool(connection.is_server_ready(client_timeout=timeout_s))
        except InferenceServerException:
            return False
