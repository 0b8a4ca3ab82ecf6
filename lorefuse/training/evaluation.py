"""What an evaluation folder says: its JSON files, its verdict in words, its curves by arm."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorefuse.core.errors import ArtifactError

TEMPERATURES = ("warm", "cold")


def read_json(path: Path, name: str) -> Any:
    """Return the content of a JSON file of a folder.

    Raises:
        ArtifactError: It is missing or cut short.
    """
    try:
        return json.loads((path / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path / name} cannot be read.", expected=f"the file {name}, whole", got=str(error), fix="lorefuse run"
        ) from None


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def by_arm(content: Mapping[str, Any], key: str, prefix: str = "") -> dict[str, list[dict[str, Any]]]:
    """Return lists of records by arm, whether the file holds arms or splits of arms.

    Args:
        content: `history.json` or `trials.json`.
        key: A key every record has: ``epoch`` or ``number``.
        prefix: Put before each arm's name.
    """
    flat: dict[str, list[dict[str, Any]]] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= by_arm(value, key, f"{prefix}{name}/")
        elif isinstance(value, list) and all(isinstance(entry, Mapping) and key in entry for entry in value):
            flat[f"{prefix}{name}"] = value
    return flat


def main_split(metrics: Mapping[str, Any], strategy: str) -> str:
    """Return the split that of the headline: the configured one, else the first."""
    return strategy if strategy in metrics["splits"] else str(next(iter(metrics["splits"])))


def headline_metric(label_kind: str) -> str:
    """Return the metric that of the headline: ``auc``, or ``rmse`` for a regression."""
    return "auc" if label_kind == "binary" else "rmse"


def verdict_lines(metrics: Mapping[str, Any], split: str) -> list[dict[str, str]]:
    """Return one line a temperature: did real knowledge help against none, and by how much?

    Returns:
        Dicts with temperature, verdict (``helped``, ``hurt``, ``no evidence``) and number, e.g.
        ``AUC +0.0370 [+0.0300, +0.0440]``; number is empty where there was no control.
    """
    content = metrics["splits"][split]
    metric = headline_metric(metrics.get("label_kind", "binary"))
    lines = []
    for temperature in TEMPERATURES:
        verdict = content.get("verdicts", {}).get(temperature)
        if verdict is None:
            continue
        entry = content.get("differences", {}).get("none", {}).get(f"{metric}_{temperature}", {})
        number = ""
        if is_number(entry.get("mean")):
            number = f"{metric.upper()} {entry['mean']:+.4f}"
        if number and is_number(entry.get("low")) and is_number(entry.get("high")):
            number += f" [{entry['low']:+.4f}, {entry['high']:+.4f}]"
        lines.append({"temperature": temperature, "verdict": str(verdict), "number": number})
    return lines


def verdict_text(metrics: Mapping[str, Any], split: str) -> str:
    """Return the verdict in one line, for logs and descriptions."""
    parts = [
        f"{e['temperature']} items: {e['verdict']} ({e['number'] or 'no control'})"
        for e in verdict_lines(metrics, split)
    ]
    return "Real knowledge against none, " + "; ".join(parts) if parts else ""
