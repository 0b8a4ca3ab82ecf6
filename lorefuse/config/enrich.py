"""Section of the knowledge that a language model writes."""

from __future__ import annotations

from pydantic import Field

from lorefuse.config.base import Section


class EnrichConfig(Section):
    """A language model behind an OpenAI-compatible endpoint writes about items and users.

    Where the endpoint is and its key come from the environment: LOREFUSE_LLM_URL, LOREFUSE_LLM_KEY.
    """

    model: str = Field(min_length=1, description="Name of the model at the endpoint.")
    item_prompt: str = Field("item_facts@1", description="Versioned template that asks about an item.")
    user_prompt: str = Field("user_taste@1", description="Versioned template that asks about a user.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 asks for the likeliest answer.")
    max_answer_tokens: int = Field(300, ge=1, description="An answer that reaches it is cut, and quarantined.")
    texts_per_user: int = Field(
        3, ge=1, le=20, description="Texts of a user, each of a longer part of the train history: one question each."
    )
    num_titles: int = Field(30, ge=1, description="Latest liked train titles that a user's prompt holds.")
    concurrency: int = Field(4, ge=1, le=256, description="Questions under way at the same time.")
    max_retries: int = Field(5, ge=0, le=20, description="Tries again after 429, 5xx, timeouts and broken answers.")
    timeout_s: float = Field(60.0, gt=0, description="Longest wait for an answer.")
    input_price: float = Field(0.0, ge=0, description="Price of a million prompt tokens.")
    output_price: float = Field(0.0, ge=0, description="Price of a million answer tokens.")
    send_unscrubbed: bool = Field(
        False, description="Send texts that hold mail addresses, telephone numbers and the like (privacy.scrub) too."
    )
    max_cost: float | None = Field(None, gt=0, description="No more questions once this is spent; null: no limit.")
