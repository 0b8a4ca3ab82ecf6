"""Texts that people wrote, without what tells who they are: mail addresses, numbers of telephones and accounts.

What is found becomes its kind: ``write to <EMAIL_ADDRESS>``; all else stays, to the letter. The recognizers are
Presidio's, with telephone numbers by phonenumbers. Ours are three patterns: of mail addresses (Presidio's takes a
minute on 16,000 characters, then gives up, and asks the network for the list of top-level domains), of the cards in
use (Presidio's takes four years in a row for one) and of logins in URLs. A text is scrubbed until nothing more is
found, so scrubbing twice is scrubbing once.

What was found is never logged, nor raised in an error.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from lorefuse.config.privacy import ScrubConfig, ScrubKind
from lorefuse.core.errors import ConfigError

if TYPE_CHECKING:
    from presidio_analyzer import EntityRecognizer

PERSON = "PERSON"
_TAG = re.compile(f"<(?:{'|'.join([*get_args(ScrubKind), PERSON])})>")
_MAY_HOLD = re.compile(r"[\d@]")
"""What every kind has that is known by a pattern; ``Face::`` would be an IPv6 address."""
_MAY_HOLD_PHONE = re.compile(r"\d(?:[\W_x]{0,4}\d){6}")
_MAIL = (
    r"(?<![\w%+-])(?<![\w%+-]\.)[\w%+-]++(?:\.[\w%+-]++)*+"  # a start at each letter would cost the square of a length
    r"@(?:[\w-]++\.)+(?:xn--[\w-]++|[^\W\d_]{2,})"  # 5V@3.1A is no address
)
_CARD = (  # Visa, Mastercard, Discover, UnionPay and JCB; American Express; Diners. Presidio's adds the checksum.
    r"\b(?:4\d{3}|5[1-5]\d\d|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)|6(?:011|2\d\d|4[4-9]\d|5\d\d)|35\d\d)"
    r"([- ]?)\d{4}\1\d{4}\1\d{4}\b|\b3[47]\d\d([- ]?)\d{6}\2\d{5}\b|\b3[0689]\d\d([- ]?)\d{6}\3\d{4}\b"
)
_LOGIN = r"(?<=\w://)[^\s/?#@<>]++@"
_CALL = re.compile(
    r"\b(?:call|phone|telephone|tel|mobile|cell|whatsapp|sms|fax|telefon|anruf\w*|handy|mobil|teléfono|móvil|celular"
    r"|téléphone|appel\w*|telefono|cellulare|telefone)\b(?:\W+\w+){0,2}\W*$",
    re.IGNORECASE,
)
"""A word that says of the digits after it that they are somebody's number."""
_WRITTEN, _BARE, _INTERNATIONAL = 0.6, 0.4, 0.9
_FEWEST_DIGITS = 9
"""Of a national number that is told by its form alone: ``06000 100`` is a valid one, and a model of a kettle."""


class Scrubbed(NamedTuple):
    """A text and what was found in it.

    Attributes:
        text: With kinds in place of what was found.
        counts: By kind; empty where the text is as it was.
    """

    text: str
    counts: Counter[str]


class Scrubber:
    """Puts ``<KIND>`` in place of what tells who somebody is.

    Args:
        config: Kinds, the lowest score that counts, regions of telephone numbers, a model for names.

    Raises:
        ConfigError: Presidio is not installed, or there is no such model.

    Example:
        >>> from lorefuse.config.privacy import ScrubConfig
        >>> Scrubber(ScrubConfig()).scrub("Apollo 13 (1995), $9.99: ask anna@example.org or +49 30 901820").text
        'Apollo 13 (1995), $9.99: ask <EMAIL_ADDRESS> or <PHONE_NUMBER>'
    """

    def __init__(self, config: ScrubConfig) -> None:
        if importlib.util.find_spec("presidio_analyzer") is None:
            raise ConfigError(
                "Looking for people's data in texts needs Presidio, which is not installed.",
                expected="the package presidio-analyzer",
                got="no such module",
                fix="pip install 'lorefuse[privacy]', or leave the texts as they are: privacy.scrub_texts: none, "
                "enrich.send_unscrubbed: true",
            )
        self.config = config
        if config.person_model:
            _require_model(config.person_model)

    @property
    def address(self) -> dict[str, Any]:
        """What decides the result, JSON-able: settings, and the releases of what holds the rules."""
        holders = ["presidio-analyzer", "phonenumbers"]
        releases = {name: importlib.metadata.version(name) for name in holders}
        if self.config.person_model:
            releases["person_model"] = _release_of(self.config.person_model)
        return {**self.config.model_dump(mode="json", exclude_none=True), "releases": releases}

    def scrub(self, text: str) -> Scrubbed:
        """Return a text without what was found, and how much of each kind that was."""
        counts: Counter[str] = Counter()
        while found := self._found(text):
            counts.update(kind for _, _, kind in found)
            pieces, last = [], 0
            for start, end, kind in found:
                pieces += [text[last:start], f"<{kind}>"]
                last = end
            text = "".join([*pieces, text[last:]])
        return Scrubbed(text, counts)

    def _found(self, text: str) -> list[tuple[int, int, str]]:
        """Return where something is, in order and apart from each other; what overlaps is one, of the surest kind."""
        if self._names is None and not _MAY_HOLD.search(text):
            return []
        tags = [(tag.start(), tag.end(), 0.0, "") for tag in _TAG.finditer(text)]
        merged: list[tuple[int, int, float, str]] = []
        for start, end, score, kind in sorted([*tags, *self._candidates(text)]):
            if merged and start < merged[-1][1]:
                first, last, best, known = merged.pop()
                start, end = first, max(last, end)
                score, kind = max((score, kind), (best, known))
            merged.append((start, end, score, kind))
        # What lies within a tag is the tag: a model may take its letters for a name.
        spans = {(start, end) for start, end, _, _ in tags}
        return [(start, end, kind) for start, end, _, kind in merged if (start, end) not in spans]

    def _candidates(self, text: str) -> Iterator[tuple[int, int, float, str]]:
        for recognizer in self._recognizers:
            for found in recognizer.analyze(text, recognizer.supported_entities, None):
                if found.score >= self.config.min_score and _MAY_HOLD.search(text, found.start, found.end):
                    yield found.start, found.end, found.score, found.entity_type
        if self._names is not None:
            yield from ((start, end, 1.0, PERSON) for start, end in self._names(text))

    @functools.cached_property
    def _recognizers(self) -> list[EntityRecognizer]:
        return _recognizers(self.config)

    @functools.cached_property
    def _names(self) -> Callable[[str], list[tuple[int, int]]] | None:
        """What finds names of people; None where no model was given."""
        if not self.config.person_model:
            return None
        import spacy

        model = spacy.load(self.config.person_model)
        # Models of languages other than English say PER.
        return lambda text: [(e.start_char, e.end_char) for e in model(text).ents if e.label_ in (PERSON, "PER")]


def _recognizers(config: ScrubConfig) -> list[EntityRecognizer]:
    """Return what finds the configured kinds; this imports Presidio, which takes seconds."""
    import phonenumbers
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer import predefined_recognizers as presidio

    unknown = set(config.phone_regions) - set(phonenumbers.SUPPORTED_REGIONS)
    if unknown:
        raise ConfigError(
            "privacy.scrub.phone_regions names what is no region.",
            expected="codes of ISO 3166 such as US, GB, DE",
            got=", ".join(sorted(unknown)),
            fix="correct them",
        )
    # Its log would hold what it looks at.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL + 1)

    def ours(kind: ScrubKind, pattern: str, score: float) -> EntityRecognizer:
        return PatternRecognizer(kind, patterns=[Pattern(kind, pattern, score)])

    known: dict[ScrubKind, list[EntityRecognizer]] = {
        "EMAIL_ADDRESS": [ours("EMAIL_ADDRESS", _MAIL, 0.8)],
        "PHONE_NUMBER": _phones(config.phone_regions),
        "CREDIT_CARD": [presidio.CreditCardRecognizer(patterns=[Pattern("card", _CARD, 0.3)])],
        "IBAN_CODE": [presidio.IbanRecognizer(regex_flags=re.IGNORECASE)],
        "IP_ADDRESS": [presidio.IpRecognizer()],
        "CRYPTO": [presidio.CryptoRecognizer()],
        "US_SSN": [presidio.UsSsnRecognizer()],
        "CREDENTIALS": [ours("CREDENTIALS", _LOGIN, 0.9)],
    }
    return [recognizer for kind in config.kinds for recognizer in known[kind]]


def _phones(regions: tuple[str, ...]) -> list[EntityRecognizer]:
    """Return what finds telephone numbers: with a plus, of any country; without, as these regions write them."""
    from presidio_analyzer import RecognizerResult
    from presidio_analyzer.nlp_engine import NlpArtifacts
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    class Phones(PhoneRecognizer):  # type: ignore[misc]
        """Presidio's, with a score that tells a number in the form of one from mere digits."""

        def analyze(
            self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
        ) -> list[RecognizerResult]:
            if not _MAY_HOLD_PHONE.search(text):
                return []
            found: list[RecognizerResult] = super().analyze(text, entities, nlp_artifacts)
            for one in found:
                number = text[one.start : one.end]
                one.score = _score_of_phone(text[: one.start], number)
                # A bracket before a number belongs to it only with the one that closes it.
                opened, shut = (sum(map(number.count, brackets)) for brackets in ("([（［", ")]）］"))
                one.start += number[0] in "([（［" and opened > shut
            return found

    # Leniency: 0 asks for a possible length, 2 for a valid number in the groups that its region writes.
    return [Phones(supported_regions=("ZZ",), leniency=0), Phones(supported_regions=regions, leniency=2)]


def _score_of_phone(before: str, number: str) -> float:
    if re.match(r"[(\[（［]?\s*[+＋]", number):
        return _INTERNATIONAL
    is_grouped = len(re.findall(r"\d+", number)) > 1 and sum(map(str.isdigit, number)) >= _FEWEST_DIGITS
    return _WRITTEN if is_grouped or _CALL.search(before[-60:]) else _BARE


def _require_model(name: str) -> None:
    if not (Path(name).is_dir() or importlib.util.find_spec(name)):
        raise ConfigError(
            "There is no such spaCy model for names of people.",
            expected="an installed package such as en_core_web_sm, or a folder",
            got=name,
            fix=f"python -m spacy download {name}, or correct privacy.scrub.person_model",
        )


def _release_of(model: str) -> str:
    from lorefuse.core.atomic import sha256_folder

    return sha256_folder(Path(model)) if Path(model).is_dir() else importlib.metadata.version(model)
