"""Section of the race that chooses a configuration where the preset leaves it open."""

from __future__ import annotations

from pydantic import Field, field_validator

from lorefuse.config.base import Section

OPEN_SECTIONS = ("embedding", "features", "model", "training", "candidates")
"""Sections of which a race sets some keys."""


class AutoConfig(Section):
    """A race between configurations that won on other data, judged on validation rows (`lorefuse.auto`).

    Where a preset names neither `model` nor `auto`, a race it is. `auto: null` keeps the defaults. Whatever else the
    preset sets stays as it is, so `model` beside `auto` races what is left open.
    """

    budget_s: float = Field(
        600.0, gt=0, description="Seconds after which no further training is started. One that runs is not stopped."
    )
    seed: int = Field(0, ge=0, description="Of the sampled users, initial weights and shuffling.")
    fixed: tuple[str, ...] = Field(
        (), description="Settings that are not raced, as dotted paths; those that the preset sets are added."
    )

    @field_validator("fixed")
    @classmethod
    def _paths_have_a_section(cls, fixed: tuple[str, ...]) -> tuple[str, ...]:
        for path in fixed:
            if path.partition(".")[0] not in OPEN_SECTIONS or path.count(".") != 1:
                raise ValueError(f"a path such as model.family, in one of {', '.join(OPEN_SECTIONS)}, not {path!r}")
        return fixed
