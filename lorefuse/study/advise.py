"""`lorefuse advise`: what to try first on a dataset, each piece of advice with its reason and its evidence."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorefuse.auto.portfolio import TABLES, ordered
from lorefuse.auto.profile import Profile, profile
from lorefuse.config import PipelineConfig
from lorefuse.data.dataset import Dataset
from lorefuse.study.rules import matching

WIDTH = 100
CAVEAT = (
    "Advice is where to start, not a result: `lorefuse run` on a preset without a model races the portfolio on your "
    "own validation rows, and `lorefuse study` measures what knowledge is worth."
)
FIRST = "configuration"
"""Topic of what the portfolio would try first."""


def advise_config(config: PipelineConfig) -> dict[str, Any]:
    """Ingest and split a configuration's data, or reuse them, and return the advice; see `advise`.

    Raises:
        LorefuseError: Whatever those steps raise.
    """
    from lorefuse import steps

    content = steps.dump_config(config)
    dataset = steps.ingest(content).path
    parts = steps.split(content, config.split.strategy, dataset).path
    return advise(Dataset.open(dataset), parts, config.embedding.prompt)


def advise(dataset: Dataset, split_path: Path, prompt: str = "plain@1") -> dict[str, Any]:
    """Return advice for a dataset under a split, ready for JSON.

    Args:
        dataset: The dataset.
        split_path: Its split.
        prompt: `embedding.prompt`.

    Returns:
        profile (`profile.Profile`), advice (topic, rule, advice, because, evidence and settings of each), settings
        (all of them, by dotted path) and caveat.
    """
    return of_profile(profile(dataset, split_path, prompt))


def of_profile(facts: Profile) -> dict[str, Any]:
    """Return the advice for a profile, as `advise` does."""
    first, *rest = ordered(facts)
    entries: list[dict[str, Any]] = [
        {
            "topic": FIRST,
            "rule": first.name,
            "advice": f"start with {first.about}; next: {', '.join(one.name for one in rest[:2])}",
            "because": first.because,
            "evidence": f"{TABLES} {first.evidence}",
            "settings": dict(first.settings),
        }
    ]
    entries += [
        {
            "topic": rule.topic,
            "rule": rule.name,
            "advice": rule.advice,
            "because": rule.because,
            "evidence": rule.evidence,
            "settings": dict(rule.settings),
        }
        for rule in matching(facts)
    ]
    settings: dict[str, Any] = {}
    for entry in reversed(entries):  # the configuration has the last word
        settings |= entry["settings"]
    return {"profile": asdict(facts), "advice": entries, "settings": settings, "caveat": CAVEAT}


def as_text(content: dict[str, Any]) -> str:
    """Return advice for people to read."""
    lines = [f"{name:16} {_number(value)}" for name, value in content["profile"].items()]
    for entry in content["advice"]:
        lines += ["", f"{entry['topic']}: {entry['advice']}"]
        for name in ("because", "evidence"):
            lines += textwrap.wrap(f"{name}: {entry[name]}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        lines += [f"  {path}: {value}" for path, value in entry["settings"].items()]
    return "\n".join([*lines, "", content["caveat"]])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
