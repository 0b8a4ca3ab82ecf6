"""A person sets the alias in the UI of MLflow, which tells the reconciler by webhook; Triton answers the new one."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.deploy import webhook
from lorefuse.deploy.ports import free_ports
from lorefuse.registry import server
from lorefuse.registry.access.hosts import HOSTS_VARIABLE
from lorefuse.registry.tracking import connect
from tests.reliability.conftest import NAME, Harness, Registry, eventually, settled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
PATIENCE_MS = 120_000
RECEIVER_PORT = free_ports().http


@pytest.fixture
def mlflow_url(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's real server over the test's registry; from here on everything goes through it."""
    monkeypatch.setenv(HOSTS_VARIABLE, f"127.0.0.1:9,127.0.0.1:{RECEIVER_PORT}")
    url = server.start(free_ports().http).url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    yield url
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    server.stop()


def set_alias(url: str, version: str, picture_path: Path) -> None:
    """Set the alias `champion` as a person does, and take a picture of what the page says then."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        login = dict(zip(("username", "password"), server.own_login(url) or ("", ""), strict=True))
        page = browser.new_page(viewport={"width": 1400, "height": 900}, http_credentials=login)
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{url}/#/models/{NAME}/versions/{version}")
        page.get_by_role("button", name="Add", exact=True).first.click()
        dialog = page.get_by_role("dialog").filter(has_text="alias").first
        box = dialog.get_by_role("combobox")
        box.fill("champion")
        box.press("Enter")
        dialog.get_by_role("button", name="Save aliases").click()
        page.get_by_text("champion").first.wait_for()
        page.screenshot(path=str(picture_path))
        browser.close()


def test_the_alias_set_in_the_ui_is_served(
    registry: Registry, bundles: tuple[Path, Path], mlflow_url: str, harness: Harness, tmp_path: Path
) -> None:
    # So seldom a look that only the webhook can make it look again.
    reconciler = harness.start(poll_s=3600)
    secret = secrets.token_hex(24)
    hints: list[int | None] = []

    def hint(version: int | None) -> None:
        hints.append(version)
        reconciler.watcher.hint(version)

    receiver = webhook.serve(RECEIVER_PORT, webhook.Verifier(secret), NAME, hint)
    try:
        url = f"http://127.0.0.1:{receiver.server_port}{webhook.PATH}"
        webhook.register("http://127.0.0.1:9/webhook", secret)
        webhook.register(url, secret)
        (entry,) = connect().list_webhooks()
        assert entry.url == url, "registered again it is brought up to date, not doubled"
        first, second = registry.publish(bundles[0]), registry.publish(bundles[1])
        registry.champion(first)
        settled(reconciler, first)
        set_alias(mlflow_url, second, tmp_path / "alias.png")
        settled(reconciler, second)
        assert hints == [int(first), int(second)]
        with Client(harness.supervisor.url) as client:
            assert client.recommend("u3").model_version == second
        assert eventually(lambda: registry.tags(second).get("state") == "live")
        assert (tmp_path / "alias.png").stat().st_size > 10_000
    finally:
        receiver.shutdown()
        receiver.server_close()
