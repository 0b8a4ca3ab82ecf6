"""Constants are fitted on tables and blocks of rows: the numbers of all train rows at once, without their memory."""

from __future__ import annotations

import pytest
import torch

from lorefuse.config import parse_config
from lorefuse.core.schema import Split
from lorefuse.models import pairs
from lorefuse.models.build import build_ranker
from lorefuse.models.layers import NumericScaler, unit_length
from lorefuse.models.ranker import as_inputs
from tests.helpers.taste_rows import make_taste_set

FAMILIES = ("deepfm", "logistic_regression")


def test_counted_rows_are_repeated_rows() -> None:
    values, times = torch.randn(7, 3), torch.tensor([0, 1, 2, 3, 1, 5, 1])
    counted, repeated = NumericScaler(3), NumericScaler(3)
    counted.fit(values, times)
    repeated.fit(values.repeat_interleave(times, dim=0))
    torch.testing.assert_close(counted.state_dict(), repeated.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_constants_are_those_of_all_train_rows(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "VALUES_AT_A_TIME", 500)
    rows = make_taste_set()
    ranker = build_ranker(parse_config({"model": {"family": family}}).model, rows.spec)
    ranker.prepare(rows)
    inputs = as_inputs(rows.inputs(rows.rows_of(Split.TRAIN)))
    facets = torch.split(inputs["user_interest"], [facet.dim for facet in rows.spec.interest], dim=1)
    unit = unit_length(inputs["item_text"])
    expected = torch.stack([(facet * unit).sum(1) for facet in facets], dim=1)
    torch.testing.assert_close(ranker.interest_scaler.mean, expected.mean(0))
    torch.testing.assert_close(ranker.item_scaler.std, inputs["item_numeric"].std(0, correction=0))
    if family == "logistic_regression":
        torch.testing.assert_close(ranker.knowledge_scaler.mean, inputs["item_text"].mean(0))
    else:
        torch.testing.assert_close(ranker.fusion.scalers[0].std, inputs["item_text"].std(0, correction=0))
