"""The page on text: its presets are valid, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lorefuse.config import EmbeddingConfig, parse_config
from lorefuse.embedding.prompt import TEMPLATES

PAGE = (Path(__file__).parents[3] / "docs" / "text.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_preset_is_valid(number: int) -> None:
    parse_config(yaml.safe_load(BLOCKS[number]))


def test_every_reducer_and_template_is_named() -> None:
    reducers = EmbeddingConfig.model_json_schema()["properties"]["reducer"]["enum"]
    assert all(f"| `{name}`" in PAGE for name in reducers)
    assert all(f"`{name}`" in PAGE for name in TEMPLATES)
    assert len(BLOCKS) == 6
