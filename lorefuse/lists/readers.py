"""The views of an arm that read a whole past at once, as the configuration asks for them.

Suffixes: ``U`` users, ``N`` items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scipy.sparse import csr_array

from lorefuse.config import PipelineConfig
from lorefuse.core.schema import TEXT
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments, asked_columns
from lorefuse.lists.stage_files import ReaderParts
from lorefuse.lists.sums import content_sums, light_gcn_sums, two_tower_sums, with_places
from lorefuse.lists.users import near_users
from lorefuse.retrieval.content import unit_rows
from lorefuse.training_set.arrays import TrainingSet


def make_readers(
    training_set: TrainingSet,
    taken_UN: csr_array,
    knowledge: ItemKnowledge,
    config: PipelineConfig,
    threshold: float,
    seed: int,
) -> dict[str, ReaderParts]:
    """Return the readers of an arm, by name; those that are trained are trained here.

    Args:
        training_set: The arm's own.
        taken_UN: What users took in train.
        knowledge: What the arm knows of the items; a view of contents that are not known is left out.
        config: Which views, and their settings.
        threshold: Label from which a row is a like.
        seed: Of those that draw.
    """
    section, places = config.candidates, knowledge.places
    result: dict[str, ReaderParts] = {}
    if section.weights is not None:  # else contents are tables
        half_life = section.half_lives[0]
        for name, vectors in knowledge.contents.items():
            if name in section.views:
                result[name] = content_sums(vectors, half_life)
    if "asked" in section.views and (columns := asked_columns(training_set.spec)) is not None:
        facts = {"kind": "asked", "start": columns.start, "end": columns.stop}
        result["asked"] = ReaderParts(facts, {"items": unit_rows(training_set.knowledge[TEXT])})
    if "user_knn" in section.views:
        result["user_knn"] = near_users(taken_UN, training_set.user_fields[:, 0], places, section)
    for name, train in (("two_tower", two_tower_sums), ("light_gcn", light_gcn_sums)):
        if name in section.views:
            trained = train(training_set, knowledge.text, config.retrieval, threshold, seed)
            result[name] = with_places(trained, places)
    if "sasrec" in section.views:
        from lorefuse.lists.encoders import sasrec_encoder

        result["sasrec"] = sasrec_encoder(training_set, knowledge.text, config.retrieval, threshold, seed)
    return result


def with_encoded(moments: Moments, readers: Mapping[str, ReaderParts]) -> Moments:
    """Return users with what each encoder makes of their past."""
    from lorefuse.lists.encoders import encoded

    made = {name: encoded(parts, moments) for name, parts in readers.items() if parts.module is not None}
    return replace(moments, encoded=made)
