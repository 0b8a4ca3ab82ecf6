"""The report's section on the race that chose the configuration: what every one reached on every rung."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorefuse.training.evaluation import is_number

_FIGURES = {"auc_warm": "AUC warm", "auc_cold": "AUC cold", "rmse_warm": "RMSE warm", "rmse_cold": "RMSE cold"}


def race_section(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template reads: who won and why, and a row for each configuration, the winner first."""
    shares = sorted({entry["share"] for one in content["configurations"] for entry in one["rungs"]})
    names = [name for name in _FIGURES if any(_last(one).get(name) is not None for one in content["configurations"])]
    ranked = sorted(content["configurations"], key=lambda one: (one["name"] != content["chosen"], *_standing(one)))
    return {
        "chosen": content["chosen"],
        "why": content["why"],
        "seconds": f"{content['elapsed_s']:.0f} of {content['auto']['budget_s']:.0f} s",
        "sequence": _sequence(content.get("sequence")),
        "columns": [*(f"{share:.0%} of the users" for share in shares), *(_FIGURES[name] for name in names)],
        "rows": [_row(one, shares, names, content["chosen"]) for one in ranked],
    }


def _row(one: Mapping[str, Any], shares: list[float], names: list[str], chosen: str) -> dict[str, Any]:
    by_share = {entry["share"]: entry for entry in one["rungs"]}
    last = _last(one)
    return {
        "name": one["name"],
        "about": one["about"],
        "evidence": one["evidence"],
        "chosen": one["name"] == chosen,
        "cells": [*(_cell(by_share.get(share)) for share in shares), *(_number(last.get(name)) for name in names)],
        "seconds": f"{sum(entry['train_s'] for entry in one['rungs']):.0f}",
        "error": next((entry["error"] for entry in one["rungs"] if entry["error"]), ""),
    }


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "stopped"
    return _number(entry["score"]) if entry["state"] == "done" else str(entry["state"])


def _number(value: Any) -> str:
    return f"{value:.4f}" if is_number(value) else "–"


def _last(one: Mapping[str, Any]) -> Mapping[str, Any]:
    done = [entry for entry in one["rungs"] if entry["state"] == "done"]
    figures: Mapping[str, Any] = done[-1]["figures"] if done else {}
    return figures


def _standing(one: Mapping[str, Any]) -> tuple[float, float]:
    """The further a configuration came, and the better it was there, the higher it stands."""
    done = [entry for entry in one["rungs"] if entry["state"] == "done" and is_number(entry["score"])]
    return (-done[-1]["share"], -done[-1]["score"]) if done else (0.0, 0.0)


def _sequence(content: Mapping[str, Any] | None) -> str:
    if content is None:
        return ""
    said = f"The order of likes as a further view of the list: {'taken' if content['taken'] else 'left out'}"
    gain = content.get("gain")
    number = f" ({gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}] NDCG@10)" if gain else ""
    return f"{said}; {content['why']}{number}."
