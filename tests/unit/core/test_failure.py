"""Word of a failed run: sent once, never of a success, and no failure of its own."""

from __future__ import annotations

import logging

import pytest

from lorefuse.core.failure import WEBHOOK_VARIABLE, report_failure
from tests.helpers.webhook import Webhook


def tell(state: str, message: str = "") -> dict[str, str | bool]:
    return report_failure("lorefuse-training", "films-1", "run-7", state, message)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "RUNNING", ""])
def test_what_did_not_succeed_is_told(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Webhook() as webhook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
        facts = tell(state, "out of memory")
    text = f"lorefuse-training: run films-1 (run-7) ended as {state or 'unknown'}: out of memory"
    assert facts == {"failed": True, "told": True, "text": text}
    assert webhook.received == [{"text": text}]


@pytest.mark.parametrize("state", ["SUCCEEDED", "COMPLETE", "cached"])
def test_a_success_is_not_told(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Webhook() as webhook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
        assert tell(state) == {"failed": False, "told": False, "text": ""}
    assert webhook.received == []


def test_a_webhook_that_refuses_is_a_warning_without_its_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Webhook(status=500) as webhook, caplog.at_level(logging.WARNING):
        monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
        assert tell("FAILED")["told"] is False
    with caplog.at_level(logging.WARNING):
        assert tell("FAILED")["told"] is False, "it is away now"
    assert caplog.text.count("failure webhook") == 2
    assert "127.0.0.1" not in caplog.text


def test_without_a_webhook_the_log_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    facts = tell("FAILED")
    assert (facts["failed"], facts["told"]) == (True, False)
    assert facts["text"]
