"""Section of people's data: pseudonyms, what texts may say, how long rows are kept, and when models have to forget."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from lorefuse.config.base import Section

ScrubKind = Literal[
    "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "CRYPTO", "US_SSN", "CREDENTIALS"
]
"""What is found in texts; all but CREDENTIALS (a login in a URL) by their names in Presidio."""


class ScrubConfig(Section):
    """What is looked for in texts."""

    kinds: tuple[ScrubKind, ...] = Field(get_args(ScrubKind), min_length=1, description="What is looked for.")
    min_score: float = Field(0.5, gt=0, le=1, description="Lowest score of Presidio's that counts; lower finds more.")
    phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = Field(
        ("US", "GB", "DE", "FR", "IL", "IN", "BR"),
        description="Whose numbers are known without a country code; those with one are, whatever the country.",
    )
    person_model: str | None = Field(
        None, description="Installed spaCy model, or folder of one, that finds names of people; null: none is sought."
    )


class PrivacyConfig(Section):
    """What is done about people; a preset without this section keeps ids as they are."""

    pseudonyms: bool = Field(
        True, description="Users are known by HMACs of their ids under LOREFUSE_PRIVACY_KEY from ingest on."
    )
    scrub_texts: Literal["users", "all", "none"] = Field(
        "users",
        description="Texts without mail addresses, telephone numbers and the like: those that users wrote (reviews, "
        "searches, chats); all, items' too; or none.",
    )
    scrub: ScrubConfig = ScrubConfig()
    retention_days: int | None = Field(
        None, ge=1, description="Interactions older than this many days before the newest are left out; null: none."
    )
    retrain_days: int = Field(
        30, ge=1, description="Days that a version trained on a forgotten person may still be promoted."
    )
