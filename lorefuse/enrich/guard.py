"""What leaves for somebody else's machine: no question that holds people's data, unless it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lorefuse.config.privacy import ScrubConfig
from lorefuse.core.errors import DataError
from lorefuse.enrich.prompts import Messages
from lorefuse.privacy.scrub import Scrubber


def refuse_unscrubbed(questions: Iterable[Messages], config: ScrubConfig) -> None:
    """Raise DataError where the scrubber finds anything in a question, whoever wrote the text in it.

    A text is scrubbed where scrubbing it again would change nothing, so no record of what was done is trusted. Names
    of people are not looked for: titles are full of those of actors and authors.

    Args:
        questions: What is about to be sent.
        config: What is looked for.

    Raises:
        DataError: Something was found; the message says how much of each kind, and nothing of the texts.
        ConfigError: Presidio is not installed.
    """
    scrubber = Scrubber(config.model_copy(update={"person_model": None}))
    num_questions, num_found, counts = 0, 0, Counter[str]()
    for messages in questions:
        found = sum((scrubber.scrub(message["content"]).counts for message in messages), Counter[str]())
        num_questions, num_found = num_questions + 1, num_found + bool(found)
        counts += found
    if num_found:
        raise DataError(
            f"{num_found} of {num_questions} questions to the language model hold people's data: nothing was sent.",
            expected="texts without it, as privacy.scrub_texts: all leaves them",
            got=", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())),
            fix="set privacy.scrub_texts: all, or, to send the texts as they are, enrich.send_unscrubbed: true",
        )
