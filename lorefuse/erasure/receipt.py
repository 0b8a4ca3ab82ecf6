"""Receipts: what was done about a person and where, signed, without a name in them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.privacy.pseudonyms import Pseudonymizer

HMAC, SHA256 = "HMAC-SHA256", "SHA-256"


def write_receipt(home_path: Path, content: Mapping[str, Any], names: Pseudonymizer | None) -> Path:
    """Sign a receipt and write it to ``<home>/privacy/receipts``; return its path.

    Args:
        home_path: The home.
        content: What it says, JSON-able; `person` is a salted hash.
        names: Holds the key; without one the signature is a plain sha256, which shows damage and no forgery.
    """
    now = datetime.now(UTC)
    signed = {**content, "finished_at": now.isoformat(timespec="seconds"), "key": names and names.fingerprint}
    signature = {"method": HMAC if names else SHA256, "value": _signature(signed, names)}
    path = home_path / "privacy" / "receipts" / f"{now:%Y%m%d-%H%M%S-%f}-{str(content['person'])[:8]}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, {**signed, "signature": signature})
    return path


def check_receipt(path: Path, names: Pseudonymizer | None) -> dict[str, Any]:
    """Return a receipt whose signature holds.

    Raises:
        ArtifactError: It was changed, or signed under another key.
    """
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    signature = content.pop("signature")
    keyed = names if signature["method"] == HMAC else None
    if not hmac.compare_digest(signature["value"], _signature(content, keyed)):
        key = names and names.fingerprint
        raise ArtifactError(
            f"{path} is not what was signed.",
            expected=f"the signature of the key {content.get('key')}" if content.get("key") else "its sha256",
            got=f"another, checked with the key {key}" if key else "another",
            fix="restore it from a backup, or set LOREFUSE_PRIVACY_KEY to the key it names",
        )
    return content


def _signature(content: Mapping[str, Any], names: Pseudonymizer | None) -> str:
    text = json.dumps(content, sort_keys=True)
    return names.sign(text) if names else hashlib.sha256(text.encode()).hexdigest()
