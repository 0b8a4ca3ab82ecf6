"""Equal scores: the lower row of the catalogue comes first, whatever else is asked for."""

from __future__ import annotations

import torch

from lorefuse.client import Client
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.synthetic_bundle import World, make_bundle, make_ranker


def test_equal_scores_come_in_the_catalogues_order(supervisor: Supervisor, world: World) -> None:
    ranker = make_ranker(world, 1)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.zero_()
    deploy(make_bundle(world, ranker, world.path / "bundle_ties"), world.store_path, 1, supervisor=supervisor)
    ids = world.dataset.items()["item_id"].tolist()
    with Client(supervisor.url) as client:
        answer = client.recommend("u3", 25, exclude_seen=False)
        assert len({item.score for item in answer.items}) == 1
        assert [item.item_id for item in answer.items] == ids[:25]
        chosen = ids[30:10:-1]
        answer = client.recommend("u3", 25, exclude_seen=False, candidates=chosen)
        assert [item.item_id for item in answer.items] == chosen[::-1]
