"""Small sets of likes, made up."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from lorefuse.retrieval.data import RetrievalData, from_rows
from lorefuse.retrieval.recommender import Side

NUM_USERS, NUM_ITEMS, NUM_TOPICS = 60, 40, 4


def random_likes(num_users: int = 30, num_items: int = 20, share: float = 0.2, seed: int = 0) -> csr_array:
    """Likes thrown at random; every user and every item has at least one."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((num_users, num_items)) < share).astype(np.float32)
    dense[np.arange(num_users), np.arange(num_users) % num_items] = 1
    dense[np.arange(num_items) % num_users, np.arange(num_items)] = 1
    return csr_array(dense)


def topic_data(*, judged: str = "test", seed: int = 0) -> RetrievalData:
    """Each user likes items of one topic, in order of time; text says the topic; two items of each topic are cold.

    Item n is of topic n % 4; the last eight items are cold: they are liked in the test part alone.
    """
    rng = np.random.default_rng(seed)
    num_warm = NUM_ITEMS - 2 * NUM_TOPICS
    users, items, codes = [], [], []
    for user in range(NUM_USERS):
        topic = user % NUM_TOPICS
        warm = rng.permutation(np.arange(topic, num_warm, NUM_TOPICS))[:6]
        users += [user] * 7
        items += [*warm, num_warm + topic + NUM_TOPICS * int(rng.integers(2))]
        codes += [0, 0, 0, 0, 1, 2, 2]
    topics = np.eye(NUM_TOPICS, 6)[np.arange(NUM_ITEMS) % NUM_TOPICS] + rng.normal(0, 0.1, (NUM_ITEMS, 6))
    side = Side(
        knowledge={"text": topics.astype(np.float32), "graph": rng.normal(size=(NUM_ITEMS, 3)).astype(np.float32)},
        user_fields=np.stack([np.arange(NUM_USERS) + 1, np.arange(NUM_USERS) % 3], axis=1),
        item_fields=np.stack([(np.arange(NUM_ITEMS) + 1) * (np.arange(NUM_ITEMS) < num_warm)], axis=1),
    )
    rows = (np.array(users), np.array(items), np.arange(len(users)), np.ones(len(users), dtype=bool), np.array(codes))
    return from_rows(*rows, num_users=NUM_USERS, num_items=NUM_ITEMS, judged=judged, side=side)
