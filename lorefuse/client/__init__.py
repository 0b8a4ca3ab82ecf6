"""A light client of the served models: no torch, no pandas, one connection.

::

    from lorefuse.client import Client

    for item in Client().recommend("42", k=10, filters={"genres": ["Drama", "War"]}).items:
        print(item.title, item.score)

`AsyncClient` says the same with `await`. Any gRPC or HTTP client can do without this package: see docs/serving.md.
"""

from lorefuse.client.answers import NewItemScore, Recommendation, ScoredItem
from lorefuse.client.asynchronous import AsyncClient
from lorefuse.client.blocking import Client, is_up
from lorefuse.client.connection import Tls
from lorefuse.client.shared import SharedBatch

__all__ = ["AsyncClient", "Client", "NewItemScore", "Recommendation", "ScoredItem", "SharedBatch", "Tls", "is_up"]
