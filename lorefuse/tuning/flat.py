"""The search space without its conditions, for tuners that know none (Katib), and the way back.

A flat tuner draws every parameter in every trial, also those that the drawn model has not: a fusion for logistic
regression, a temperature where there is no alignment loss. `from_flat` leaves those out, by drawing from the very
space that the study here draws from; two flat points may thus stand for the same model, which costs the tuner trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorefuse.config import PipelineConfig
from lorefuse.core.errors import ConfigError
from lorefuse.tuning.space import ALIGNMENT, CHOICES, RANGES, suggest

METRIC = "validation_score"
"""What a trial is judged by, higher is better; printed as ``validation_score=<number>``."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, drawn on a logarithmic scale where `log`."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class Choice:
    """One of some values, written as text."""

    values: tuple[str, ...]


def flat_space(config: PipelineConfig, arm: str = "real") -> dict[str, Range | Choice]:
    """Return every parameter that `space.suggest` may draw, by name.

    Args:
        config: `tuning.space` and `tuning.families` decide what there is.
        arm: Without knowledge (``none``) there is nothing to fuse or align.
    """
    flat: dict[str, Range | Choice] = {name: Range(*ends) for name, ends in RANGES.items()}
    if config.tuning.space == "training":
        return flat
    flat["family"] = Choice(config.tuning.families)
    named = ("embedding_dim",) if arm == "none" else tuple(CHOICES)
    flat |= {name: Choice(tuple(str(value) for value in CHOICES[name])) for name in named}
    return flat if arm == "none" else flat | {name: Range(*ends) for name, ends in ALIGNMENT.items()}


def from_flat(given: Mapping[str, str], config: PipelineConfig, arm: str = "real") -> dict[str, Any]:
    """Return the hyper-parameters of a trial, as `space.suggest` draws them.

    Args:
        given: A text for every name of `flat_space`.
        config: As for `flat_space`.
        arm: As for `flat_space`.

    Raises:
        ConfigError: A name is missing or unknown, or a value is none of the space.
    """
    from optuna.trial import FixedTrial

    flat = flat_space(config, arm)
    if given.keys() != flat.keys():
        raise ConfigError(
            "A trial needs a value for each parameter of its space.",
            expected=", ".join(sorted(flat)),
            got=", ".join(sorted(given)) or "none",
        )
    values = {name: _value(name, given[name], flat[name]) for name in flat}
    return suggest(FixedTrial(values), config, arm)


def _value(name: str, text: str, space: Range | Choice) -> Any:
    if isinstance(space, Choice):
        choices = CHOICES.get(name, space.values)
        for choice in choices:
            if str(choice) == text:
                return choice
        raise ConfigError(f"{name} cannot be {text!r}.", expected=" or ".join(space.values), got=text)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not space.low <= number <= space.high:
        raise ConfigError(f"{name} cannot be {text!r}.", expected=f"{space.low:g} to {space.high:g}", got=text)
    return number
