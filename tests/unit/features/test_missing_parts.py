"""Every optional part of the data left out, alone and together: from files to trained rankers of several arms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml

from lorefuse import steps
from lorefuse.config import Arm, PipelineConfig, load_config
from lorefuse.config.learning import NamedArm
from lorefuse.config.models import model_class
from lorefuse.core.schema import Split, Tensor
from lorefuse.models.build import FAMILIES
from lorefuse.training.train import arm_set, score_rows, train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.shop import write_shop

ARMS: tuple[Arm, ...] = ("real", "none", "categories", "shuffled")
OPTIONAL = ("categories", "multi categories", "user columns", "graph", "text")
WITHOUT = {
    "nothing": (),
    **{part: (part,) for part in OPTIONAL},
    "all but titles": ("categories", "multi categories", "user columns", "graph"),
    "all": OPTIONAL,
}
ROLES = {
    "categories": ("item_categories",),
    "multi categories": ("item_multi_categories",),
    "user columns": ("user_categories", "users_path"),
    "graph": ("triples_path", "links_path"),
}


def _preset(folder: Path, without: tuple[str, ...]) -> Path:
    """Write the shop with a file of users, and a preset that leaves some parts of it out."""
    path = write_shop(folder)
    rows = pd.read_csv(folder / "interactions.csv")
    ids = sorted(rows["user_id"].unique())
    users = pd.DataFrame({"user_id": ids, "country": [("at", "de", "ch")[n % 3] for n in range(len(ids))]})
    users.to_csv(folder / "users.csv", index=False)
    content = yaml.safe_load(path.read_text("utf-8"))
    source = content["data"]["source"]
    source |= {"users_path": "users.csv", "user_categories": ["country"]}
    for name in [name for part in without if part in ROLES for name in ROLES[part]]:
        del source[name]
    if "text" in without:
        source |= {"item_text": [], "item_title": "item_id"}
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def _training_set(preset_path: Path) -> tuple[TrainingSet, PipelineConfig]:
    """Run the pipeline's own steps from the files to the training set."""
    pipeline = load_config(preset_path)
    return TrainingSet.load(steps.prepare(pipeline, "per_user_time")["training_set"]), pipeline


def _config(pipeline: PipelineConfig, family: str) -> PipelineConfig:
    small = {"embedding_dim": 4, "fusion_text_dim": 2, "fusion_graph_dim": 2}
    fields = model_class(family).model_fields
    model = {"family": family, **{name: value for name, value in small.items() if name in fields}}
    content = pipeline.model_dump(mode="json") | {"model": model}
    content["training"] |= {"max_epochs": 1, "batch_size": 1024}
    return PipelineConfig.model_validate(content)


def _expected_widths(without: tuple[str, ...]) -> Mapping[str, int]:
    def width(part: str, size: int) -> int:
        return 0 if part in without else size

    return {
        Tensor.USER_FIELDS: 1 + width("user columns", 1),
        Tensor.ITEM_FIELDS: 1 + width("categories", 1),
        Tensor.ITEM_MULTI: width("multi categories", 3),
        "item_text": width("text", 4),
        "item_graph": width("graph", 4),
        Tensor.USER_INTEREST: 2 * (width("text", 4) + width("graph", 4)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT.keys())
def test_every_arm_and_family_trains_without_a_part(without: tuple[str, ...], tmp_path: Path) -> None:
    training_set, pipeline = _training_set(_preset(tmp_path, without))
    for tensor, width in _expected_widths(without).items():
        assert training_set.spec.width(tensor) == width, tensor
    test = training_set.rows_of(Split.TEST)
    for arm in ARMS:
        given = arm_set(training_set, arm, pipeline, seed=0)
        given.check()
        assert np.isfinite(given.item_numeric).all(), arm
        for family in FAMILIES:
            config = _config(pipeline, family)
            scores = score_rows(train(given, config.model, config.training).ranker, given, test)
            assert np.isfinite(scores).all(), (arm, family)
            assert np.ptp(scores) > 0, (arm, family)  # every score is a row's own, not one for all


def test_the_arms_are_some_that_there_are() -> None:
    assert set(ARMS) <= set(get_args(NamedArm))
