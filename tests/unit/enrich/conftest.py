"""The endpoint and the settings that lead to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("openai", reason="the extra `enrich` is not installed")
from tests.helpers.chat_endpoint import KEY, Endpoint, TinyModel, serve


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    return TinyModel()


@pytest.fixture
def endpoint(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with serve(tiny_model) as server:
        monkeypatch.setenv("LOREFUSE_LLM_URL", server.url)
        monkeypatch.setenv("LOREFUSE_LLM_KEY", KEY)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
