"""What a fine-tuned encoder has seen of the interactions, and whether a split may use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError, LeakError

REPORT_FILE = "lorefuse_finetune.json"
ITEMS_FILE = "lorefuse_finetune_items.json"
OWN_FILES = (REPORT_FILE, ITEMS_FILE)
"""Beside an encoder's weights; they decide no vector, so they are not part of its revision."""


@dataclass(frozen=True)
class Provenance:
    """What an encoder was fine-tuned on.

    Attributes:
        data_cutoff: Latest interaction it has seen, ISO 8601 in UTC.
        item_ids: Items of those interactions.
    """

    data_cutoff: str
    item_ids: frozenset[str]

    @classmethod
    def read(cls, encoder_path: Path) -> Provenance | None:
        """Read the report beside an encoder; None where it was never fine-tuned here.

        Raises:
            ArtifactError: The report is there, but not whole.
        """
        if not (encoder_path / REPORT_FILE).exists():
            return None
        try:
            report = json.loads((encoder_path / REPORT_FILE).read_text("utf-8"))
            item_ids = json.loads((encoder_path / ITEMS_FILE).read_text("utf-8"))
            cutoff = datetime.fromisoformat(report["data_cutoff"])
            return cls(cutoff.isoformat(), frozenset(map(str, item_ids)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"The fine-tuned encoder in {encoder_path} does not say what it has seen.",
                expected=f"whole {REPORT_FILE} and {ITEMS_FILE}",
                got=repr(error),
                fix="fine-tune it again",
            ) from None


def check_no_leak(
    data_cutoff: str | None,
    fitted: NDArray[np.bool_],
    *,
    is_train: NDArray[np.bool_],
    split_cutoff: str,
    item_ids: Sequence[str],
) -> None:
    """Refuse vectors whose encoder has seen what the split holds back.

    Two things are held back: rows after the split's cutoff, and every row of a cold item, also those before it.

    Args:
        data_cutoff: Of the encoder's fine-tuning; None where it was not fine-tuned.
        fitted: Items whose interactions it has seen, (N,).
        is_train: Items with a train row, (N,).
        split_cutoff: Latest train row.
        item_ids: Of the rows, for the message.

    Raises:
        LeakError: Either is the case.
    """
    if data_cutoff is None:
        return
    fix = "fine-tune the encoder on this split, or take the one it was made from"
    if datetime.fromisoformat(data_cutoff) > datetime.fromisoformat(split_cutoff):
        raise LeakError(
            "The encoder was fine-tuned on later data than this split trains on.",
            expected=f"a cutoff of at most {split_cutoff}",
            got=data_cutoff,
            fix=fix,
        )
    leaked = np.flatnonzero(fitted & ~is_train)
    if len(leaked):
        raise LeakError(
            "The encoder was fine-tuned on interactions of items that are cold in this split.",
            expected="train items alone",
            got=f"{len(leaked)} cold items, e.g. {item_ids[leaked[0]]}",
            fix=fix,
        )
