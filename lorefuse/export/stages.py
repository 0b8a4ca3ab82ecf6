"""Hold a bundle's two stages to what was judged: the exported files give the evaluated lists, item for item.

Suffixes: ``U`` users, ``M`` candidates, ``K`` returned.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Tensor
from lorefuse.export.bundle import (
    CANDIDATE_RANKER_FILE,
    CATALOGUE_REFERENCE_FILE,
    ITEM_SIDE_GRAPH_FILE,
    TABLES_FILE,
    graph_file,
)
from lorefuse.export.retrieve import ITEM_SIDE
from lorefuse.export.session import open_session
from lorefuse.lists.stage_files import LIST_VALUES_FILE, load_stages
from lorefuse.lists.two_stage import encode, encoder_names

if TYPE_CHECKING:
    from lorefuse.config import PipelineConfig
    from lorefuse.models.ranker import Ranker
    from lorefuse.training_set.arrays import TrainingSet

Arrays = dict[str, NDArray[Any]]
NUM_REFERENCE_USERS, NUM_HELD_USERS = 16, 200
LIKED_ROWS, SEEN_ROWS = Tensor.LIKED_ROWS.value, Tensor.SEEN_ROWS.value
STATE_OF_PAST = {"user": Tensor.USER_FIELDS.value, "interest": Tensor.USER_INTEREST.value}
"""Key of a past → the user tensor that holds it."""
MIN_SAME_ITEMS = 0.999
"""Share of the places that must hold the evaluated item; two whose scores differ by a rounding may change places."""


class OnnxStages:
    """Both stages of a bundle, as Triton runs them.

    Args:
        path: Folder with the bundle's files.
    """

    def __init__(self, path: Path) -> None:
        self.stages = load_stages(path).two_stage()
        self.session = open_session(path / CANDIDATE_RANKER_FILE)
        self.names = [tensor.name for tensor in self.session.get_inputs() if tensor.name != ITEM_SIDE]
        side, tables = open_session(path / ITEM_SIDE_GRAPH_FILE), _tables(path)
        names = [tensor.name for tensor in side.get_inputs()]
        (self.item_side,) = side.run(None, {name: tables[name] for name in names})
        self.encoders = {name: open_session(path / graph_file(name)) for name in encoder_names(self.stages.facts)}

    def answer(self, users: Arrays) -> Arrays:
        """Return the lists of some users.

        Args:
            users: User tensors, user_fields among them, exclude_rows, liked_rows and seen_rows, (U, …).

        Returns:
            catalogue_row int64 (U, K) and score float32 (U, K); -1 and -inf fill up.
        """
        num_users, num_returned = len(users[LIKED_ROWS]), self.stages.facts["num_returned"]
        rows = np.full((num_users, num_returned), -1, np.int64)
        scores = np.full((num_users, num_returned), -np.inf, np.float32)
        for number in range(num_users):
            best, chance = self._one({name: array[number] for name, array in users.items()})
            rows[number, : len(best)], scores[number, : len(best)] = best, chance
        return {Tensor.CATALOGUE_ROW.value: rows, Tensor.SCORE.value: scores}

    def _one(self, user: Arrays) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        past = {"liked": _without_padding(user[LIKED_ROWS]), "seen": _without_padding(user[SEEN_ROWS])}
        past |= {key: user[name] for key, name in STATE_OF_PAST.items() if name in user}
        encoded = encode(past["liked"], self.encoders, self.stages.facts)
        found, blended = self.stages.find(past, user[Tensor.EXCLUDE_ROWS.value], encoded)
        ranked = None
        if self.stages.asks_ranker and len(found):
            feed = {name: user[name][None] for name in self.names}
            ranked = self.session.run(None, {**feed, ITEM_SIDE: self.item_side[found]})[0][0]
        return self.stages.order(found, blended, ranked)


def export_encoders(lists_path: Path, config: PipelineConfig, out_path: Path) -> None:
    """Write each encoder of a past as ONNX, `<name>.onnx`."""
    from lorefuse.export.onnx import export_module
    from lorefuse.lists.encoders import USER_VECTOR, load_encoder

    for name in encoder_names(load_stages(lists_path).facts):
        module, example = load_encoder(name, lists_path, config)
        export_module(module, example, list(example), [USER_VECTOR], out_path / graph_file(name))


def export_stages(training_set: TrainingSet, config: PipelineConfig, ranker: Ranker, out_path: Path) -> dict[str, Any]:
    """Write the reference answers of a bundle whose files are there, and hold them to the evaluated lists.

    Returns:
        num_held_users and same_items, the share of places that hold the item that was evaluated.

    Raises:
        ArtifactError: The exported stages show other lists than those that were judged.
    """
    import pandas as pd
    from safetensors.numpy import save_file

    from lorefuse.export.signature import num_excluded
    from lorefuse.lists.moments import stack
    from lorefuse.lists.ranking import tensors_of
    from lorefuse.lists.run import judged_moments

    section = config.candidates
    moments = judged_moments(training_set, config)
    judged = pd.read_parquet(out_path / LIST_VALUES_FILE).set_index("user_row")["list"]
    held = moments.thinned(NUM_HELD_USERS)
    served = OnnxStages(out_path)

    def asked(chosen: Any, width: int) -> Arrays:
        return {
            **tensors_of(ranker, training_set, chosen),
            Tensor.USER_FIELDS.value: chosen.fields,
            LIKED_ROWS: stack(chosen.liked, section.history_length),
            SEEN_ROWS: stack(chosen.seen, section.history_length),
            Tensor.EXCLUDE_ROWS.value: stack(chosen.hidden, width),
        }

    answers = served.answer(asked(held, max(1, *map(len, held.hidden))))[Tensor.CATALOGUE_ROW.value]
    expected = np.stack([judged.loc[user] for user in held.users])
    same = hold_lists(answers[:, : expected.shape[1]], expected)
    users = asked(held.thinned(NUM_REFERENCE_USERS), num_excluded(served.stages.num_items, config.serving))
    arrays = {**users, **served.answer(users)}
    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, str(out_path / CATALOGUE_REFERENCE_FILE))
    return {"num_held_users": len(held), "same_items": same}


def hold_lists(got: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Return the share of places of the lists (U, K) that hold the expected item.

    Raises:
        ArtifactError: It is below `MIN_SAME_ITEMS`.
    """
    width = min(got.shape[1], expected.shape[1])
    same = float((got[:, :width] == expected[:, :width]).mean()) if got.size else 1.0
    if same < MIN_SAME_ITEMS:
        raise ArtifactError(
            "The exported stages show other lists than those that were judged.",
            expected=f"the same item in at least {MIN_SAME_ITEMS:.1%} of the places",
            got=f"{same:.1%} of {got[:, :width].size:,}",
            fix="run again: lorefuse run; if it stays, report it as a bug with the model's config",
        )
    return same


def _tables(path: Path) -> Arrays:
    from safetensors.numpy import load_file

    tables: Arrays = load_file(str(path / TABLES_FILE))
    return tables


def _without_padding(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[rows >= 0]
