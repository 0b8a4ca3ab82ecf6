"""Reads Feast's Redis online store without Feast.

One hash per entity: its key is Feast's entity key followed by the project; a field is the little-endian murmur3 of
``<view>:<feature>``, its value a serialized ``feast.types.Value``; ``_ts:<view>`` says that the view has a row at all.

Where Redis is: `LOREFUSE_ONLINE_STORE_URL`, ``redis://[:password@]host:port[/db]`` (rediss for TLS). What a request
gets while it does not answer: `LOREFUSE_ONLINE_STORE_DOWN`, ``unavailable`` (the default: UNAVAILABLE, which clients
may try again) or ``newcomer`` (what somebody unknown would get, with what the user has seen not left out).
"""

import os
import re
import struct
import sys
import time

import mmh3
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from stored_values import OnlineStoreError, OnlineStoreUnavailableError, entity_keys, parse_value

URL_VARIABLE, DOWN_VARIABLE = "LOREFUSE_ONLINE_STORE_URL", "LOREFUSE_ONLINE_STORE_DOWN"
UNAVAILABLE, NEWCOMER = "unavailable", "newcomer"
TIMEOUT_S = 0.5
PAUSE_S = 1.0
"""After a failure nobody asks Redis for this long: requests must not queue up behind timeouts."""


class RedisStore:
    """A project of an online store in Redis; connects when first asked, and again after Redis comes back.

    Args:
        project: Feast project.
        views: View → names of its features.
    """

    def __init__(self, project: str, views: dict[str, list[str]]) -> None:
        url = os.environ.get(URL_VARIABLE, "")
        self.when_down = os.environ.get(DOWN_VARIABLE) or UNAVAILABLE
        if self.when_down not in (UNAVAILABLE, NEWCOMER):
            raise OnlineStoreError(f"{DOWN_VARIABLE} is {self.when_down!r}; expected {UNAVAILABLE} or {NEWCOMER}")
        if not url:
            raise OnlineStoreError(f"these features are in Redis, and {URL_VARIABLE} is not set where Triton runs")
        self.place = re.sub(r"//[^@/]*@", "//***@", url)
        try:
            # One more try at once: a connection that Redis closed while idle is noticed only when it is used.
            self.connection = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1)
            )
        except ValueError as error:
            raise OnlineStoreError(f"{URL_VARIABLE} is not a Redis URL: {error}") from None
        self.project = project
        self.suffix, self.mark = project.encode(), f"lorefuse:filled:{project}"
        # Each view's mark of existence, then its features.
        self.columns = [(view, name) for view, names in views.items() for name in (None, *names)]
        self.fields = [
            f"_ts:{view}".encode() if name is None else struct.pack("<i", mmh3.hash(f"{view}:{name}"))
            for view, name in self.columns
        ]
        self.rest_until_s = 0.0

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def read(self, key: str, entity_ids: list[str]) -> list[dict[str, object]]:
        """Return the features of some entities; a feature that the store does not have is absent.

        Args:
            key: Join key, e.g. ``user_id``.
            entity_ids: Raw ids.

        Returns:
            One dict per id: feature → str, float, list of str or float32 array.

        Raises:
            OnlineStoreUnavailableError: Redis does not answer, or holds this project no longer.
            OnlineStoreError: A value has an unknown type, or is damaged.
        """
        try:
            rows = self.read_raw(key, entity_ids)
        except OnlineStoreUnavailableError as error:
            if self.when_down == UNAVAILABLE:
                raise
            print(f"W answering as for newcomers: {error}", file=sys.stderr, flush=True)
            return [{} for _ in entity_ids]
        return [self._parsed(values) for values in rows]

    def read_raw(self, key: str, entity_ids: list[str]) -> list[list[bytes | None]]:
        """Return the bytes of `fields` for some entities, in one round trip.

        Raises:
            OnlineStoreUnavailableError: Redis does not answer, or holds this project no longer.
        """
        if time.monotonic() < self.rest_until_s:
            raise OnlineStoreUnavailableError(f"the online store {self.place} did not answer a moment ago")
        try:
            with self.connection.pipeline(transaction=False) as pipe:
                pipe.exists(self.mark)
                for entity in entity_keys(key, entity_ids):
                    pipe.hmget(entity + self.suffix, self.fields)
                filled, *rows = pipe.execute()
        except redis.RedisError as error:
            self.rest_until_s = time.monotonic() + PAUSE_S
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise OnlineStoreUnavailableError(f"the online store {self.place} does not answer ({reason})") from None
        if not filled:
            raise OnlineStoreUnavailableError(f"the online store {self.place} has no features of {self.project}")
        return rows

    def _parsed(self, values: list[bytes | None]) -> dict[str, object]:
        found, there = {}, False
        for (_, name), value in zip(self.columns, values, strict=True):
            if name is None:
                there = value is not None  # as Feast does: without a row's time there is no row
            elif there and value is not None and (parsed := parse_value(value)) is not None:
                found[name] = parsed
        return found
