"""Versioned questions about items and users.

The two kinds of knowledge are those of KAR (arXiv:2306.10933): facts about items, and reasoning about what a user
likes. Questions are answered in free text that an encoder reads, so they ask for plain sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorefuse.core.errors import ConfigError

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Question:
    """A template of a chat.

    Attributes:
        system: What the model shall be.
        user: What it is asked; ``{subject}`` is where the item's text or the user's titles go.
    """

    system: str
    user: str

    def about(self, subject: str) -> Messages:
        """Return the chat about one item or user; nothing in `subject` is read as a placeholder."""
        before, after = self.user.split("{subject}")
        return [{"role": "system", "content": self.system}, {"role": "user", "content": f"{before}{subject}{after}"}]


ITEM_QUESTIONS = {
    "item_facts@1": Question(
        "You know the catalogue of a shop or library well. Answer in plain sentences, at most 120 words, without "
        "lists, headings or remarks about yourself. State no fact that you are not sure of.",
        "An item is described like this:\n\n{subject}\n\nSay what else is known about it: its subject and themes, its "
        "style and mood, who made it and what else they made, what it resembles, and who is likely to enjoy it. If you "
        "do not know this item, say what follows from the description alone.",
    ),
}
USER_QUESTIONS = {
    "user_taste@1": Question(
        "You understand people's taste from what they liked. Answer in plain sentences, at most 120 words, without "
        "lists, headings or remarks about yourself.",
        "Somebody liked these, the latest last:\n\n{subject}\n\nReason about what these have in common and how the "
        "taste changes, then say which subjects, styles, moods and makers this person prefers, and what kind of thing "
        "they would like next. Name none of the titles above.",
    ),
}
"""A question never changes under its name: a better one gets the next number."""


def question(name: str, known: dict[str, Question], key: str) -> Question:
    """Look a question up.

    Args:
        name: Name and version.
        known: `ITEM_QUESTIONS` or `USER_QUESTIONS`.
        key: Where it was configured, for the message.

    Raises:
        ConfigError: There is none of this name.
    """
    found = known.get(name)
    if found is None:
        raise ConfigError(
            f"There is no question {name!r}.", expected=", ".join(sorted(known)), got=name, fix=f"set {key}"
        )
    return found


def title_list(titles: Sequence[str]) -> str:
    """Return titles as lines, each marked, so that a title cannot pass for part of the question."""
    return "\n".join(f"- {' '.join(title.split())}" for title in titles)
