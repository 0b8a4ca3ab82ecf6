"""A small shop of one's own files, correct until a test spoils it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lorefuse.config import DataConfig, FileSource

ITEMS = "item_id,title,genres,price\ni1,Tea,hot|drink,1.5\ni2,Coffee,hot,2\ni3,Ice,cold,\n"
USERS = "user_id,country\nu1,DE\nu2,FR\n"
ROWS = ["u1,i1,5,1000", "u1,i2,3,2000", "u2,i1,4,1500", "u2,i3,2,500"]


@dataclass
class Shop:
    """Three files in a folder, and a mapping that fits them."""

    path: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """Replace one file."""
        file = self.path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def write_rows(self, *rows: str, header: str = "user_id,item_id,rating,timestamp") -> None:
        """Replace the interactions."""
        self.write("interactions.csv", "\n".join([header, *rows]) + "\n")

    def config(self, max_bad_share: float = 1.0, **source: Any) -> DataConfig:
        """Return a config for the files as they stand."""
        mapping: dict[str, Any] = {
            "interactions_path": self.path / "interactions.csv",
            "items_path": self.path / "items.csv",
            "users_path": self.path / "users.csv",
            "timestamp_unit": "s",
            "item_multi_categories": ("genres",),
            "item_numerics": ("price",),
            "user_categories": ("country",),
        }
        return DataConfig(source=FileSource(**{**mapping, **source}), max_bad_share=max_bad_share)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A correct shop."""
    (tmp_path / "shop").mkdir()
    shop = Shop(tmp_path / "shop")
    shop.write("items.csv", ITEMS)
    shop.write("users.csv", USERS)
    shop.write_rows(*ROWS)
    return shop
