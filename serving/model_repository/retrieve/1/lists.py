"""Both stages of a version inside Triton: views find candidates, the ranker's graph scores them.

The arithmetic is that of two_stage.py, the very file that judged the lists.
"""

import json
import os

import numpy as np
from finder import Finder, open_session
from tables import open_tables, plain
from two_stage import TwoStage, encode, encoder_names

SIDE = "item_side"


class Lists(Finder):
    """Candidates and ranker of one version.

    Args:
        folder: Version folder; holds `candidates.json`, `candidates.safetensors`, `candidate_ranker.onnx`,
            `item_side.npy` and the graph of each encoder of a past, such as `sasrec.onnx`.

    Raises:
        OPEN_ERRORS: A file is missing or not whole.
    """

    def __init__(self, folder):
        with open(os.path.join(folder, "candidates.json"), encoding="utf-8") as stream:
            facts = json.load(stream)
        self.stages = TwoStage(open_tables(os.path.join(folder, "candidates.safetensors")), facts)
        self.items = {SIDE: plain(np.load(os.path.join(folder, "item_side.npy"), mmap_mode="r"))}
        self.session = open_session(os.path.join(folder, "candidate_ranker.onnx"))
        self.encoders = {name: open_session(os.path.join(folder, f"{name}.onnx")) for name in encoder_names(facts)}
        self.names = [tensor.name for tensor in self.session.get_inputs()]
        self.user_names = [name for name in self.names if name != SIDE]

    def rank(self, tensors):
        """Return rows int64 (B, K) and scores float32 (B, K), best first; -1 and -inf fill up."""
        num_users, num_returned = len(tensors["exclude_rows"]), self.stages.facts["num_returned"]
        rows = np.full((num_users, num_returned), -1, np.int64)
        scores = np.full((num_users, num_returned), -np.inf, np.float32)
        for user in range(num_users):
            best, chance = self._one(tensors, user)
            rows[user, : len(best)], scores[user, : len(best)] = best, chance
        return rows, scores

    def _one(self, tensors, user):
        liked, seen = tensors["liked_rows"][user], tensors["seen_rows"][user]
        past = {"liked": liked[liked >= 0], "seen": seen[seen >= 0], "user": tensors["user_fields"][user]}
        if "user_interest" in tensors:
            past["interest"] = tensors["user_interest"][user]
        encoded = encode(past["liked"], self.encoders, self.stages.facts)
        found, blended = self.stages.find(past, tensors["exclude_rows"][user], encoded)
        if not self.stages.asks_ranker or not len(found):
            return self.stages.order(found, blended)
        feed = {name: tensors[name][user : user + 1] for name in self.user_names}
        feed[SIDE] = self.items[SIDE].take(found, axis=0)
        return self.stages.order(found, blended, self.session.run(None, feed)[0][0])
