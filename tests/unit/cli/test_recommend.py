"""`lorefuse recommend` says what a user liked last, not what they liked first."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import lorefuse.client
from lorefuse.cli.main import app
from lorefuse.client.answers import Recommendation, ScoredItem


class FakeClient:
    """Answers every user alike."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None: ...

    def recommend(self, user_id: str, k: int, *, exclude_seen: bool) -> Recommendation:
        liked = [f"Title {number}" for number in range(20)]  # newest first, as the server sends them
        return Recommendation([ScoredItem("1", "One", 0.5)], liked, "1", "2026-01-01T00:00:00+00:00")


def test_the_newest_eight_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lorefuse.client, "Client", FakeClient)
    said = CliRunner().invoke(app, ["recommend", "--user", "7"]).stdout.replace("\n", " ")
    assert "User 7 liked: Title 0, " in said
    assert "Title 7" in said
    assert "Title 8" not in said
