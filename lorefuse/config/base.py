"""What all sections of the configuration share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from lorefuse.core.schema import BLOCK_NAME


class Section(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def one_of(names: Sequence[str], suffix: str) -> Callable[[str], str]:
    """Return a check: a text is one of some names, or the name of a knowledge block with a suffix."""

    def checked(text: str) -> str:
        if text not in names and not re.fullmatch(f"{BLOCK_NAME}{suffix}", text):
            raise ValueError(f"{', '.join(names)}, or <knowledge block>{suffix}")
        return text

    return checked
