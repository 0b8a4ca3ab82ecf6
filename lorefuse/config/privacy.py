"""Section of people's data: pseudonyms, how long rows are kept, and when models have to forget."""

from __future__ import annotations

from pydantic import Field

from lorefuse.config.base import Section


class PrivacyConfig(Section):
    """What is done about people; a preset without this section keeps ids as they are."""

    pseudonyms: bool = Field(
        True, description="Users are known by HMACs of their ids under LOREFUSE_PRIVACY_KEY from ingest on."
    )
    retention_days: int | None = Field(
        None, ge=1, description="Interactions older than this many days before the newest are left out; null: none."
    )
    retrain_days: int = Field(
        30, ge=1, description="Days that a version trained on a forgotten person may still be promoted."
    )
