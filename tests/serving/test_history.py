"""A model that reads histories, served: the online store's list is the one that training saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from lorefuse.client import Client
from lorefuse.config import DINConfig
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.features.history import recent_liked
from lorefuse.features.rows import Interactions
from tests.helpers.synthetic_bundle import NUM_ITEMS, World, make_bundle, make_ranker

MODEL = DINConfig(embedding_dim=4, hidden_dims=(8,), history_length=6, attention_dim=5)


def history_after_everything(world: World, user_id: str) -> list[int]:
    """The last liked items of a user before the test part, as `recent_liked` gives them to a row at the end of time."""
    rows, user = world.training_set, int(user_id[1:])
    users = world.dataset.users()["user_id"].to_list()
    extra = {"user_row": users.index(f"u{user}"), "item_row": 0, "timestamp_us": 2**60, "label": 0.0, "value": 0.0}
    columns = {name: np.append(getattr(rows, name), np.array([value])) for name, value in extra.items()}
    history = Interactions.of(
        columns["user_row"].astype(np.int32),
        columns["item_row"].astype(np.int32),
        columns["timestamp_us"],
        columns["label"],
        columns["value"],
        np.append(rows.split_code <= 1, False),
        "binary",
    )
    found: list[int] = recent_liked(history, MODEL.history_length)[-1].tolist()
    return found


def test_din_is_served_with_the_history_it_was_trained_on(
    new_supervisor: Callable[[], Supervisor], world: World
) -> None:
    ranker = make_ranker(world, 3, MODEL)
    changed = dataclasses.replace(world, config=world.config.model_copy(update={"model": MODEL}))
    bundle_path = make_bundle(changed, ranker, world.path / "bundle_din")
    supervisor = new_supervisor()
    assert deploy(bundle_path, world.store_path, 1, supervisor=supervisor)["max_score_difference"] <= 1e-5
    items = {name: torch.from_numpy(table) for name, table in world.training_set.item_tables().items()}
    with Client(supervisor.url) as client:
        for user in ("u0", "u3", "u11", "somebody new"):
            tensors = client.user_tensors(user)
            wanted = [0] * 6 if user == "somebody new" else history_after_everything(world, user)
            assert tensors["user_history"].tolist() == [wanted]
            users = {name: torch.from_numpy(value.copy()).expand(NUM_ITEMS, -1) for name, value in tensors.items()}
            with torch.no_grad():
                scores = ranker.to_score(ranker(**users, **items)).numpy()
            order = np.argsort(-scores, kind="stable")[:10]
            ids = world.dataset.items()["item_id"].to_numpy()
            answer = client.recommend(user, 10, exclude_seen=False, candidates=ids.tolist())
            assert [item.item_id for item in answer.items] == ids[order].tolist()
            assert np.abs(np.array([item.score for item in answer.items]) - scores[order]).max() <= 1e-5
