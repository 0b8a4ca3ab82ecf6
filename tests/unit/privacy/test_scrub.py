"""What is found in texts and what is not, in the forms that people write; scrubbing twice is scrubbing once."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lorefuse.config import parse_config
from lorefuse.config.privacy import ScrubConfig, ScrubKind
from lorefuse.core.errors import ConfigError
from lorefuse.privacy.scrub import Scrubber
from tests.unit.privacy.conftest import missing_presidio

phonenumbers = pytest.importorskip("phonenumbers", reason="Presidio is not installed (pip install 'lorefuse[privacy]')")
FOUND = [
    ("EMAIL_ADDRESS", "anna@example.org"),
    ("EMAIL_ADDRESS", "Anna.Q+x@mail.example.co.uk"),
    ("EMAIL_ADDRESS", "anna@firma.intern"),
    ("EMAIL_ADDRESS", "müller@bücher.example"),
    ("PHONE_NUMBER", "+49 (0) 30 901820"),
    ("PHONE_NUMBER", "0049 30 901820"),
    ("PHONE_NUMBER", "+49 1517 000009"),
    ("PHONE_NUMBER", "030 901820"),
    ("PHONE_NUMBER", "0211/1234567"),
    ("PHONE_NUMBER", "(212) 555-0175"),
    ("PHONE_NUMBER", "212.555.0175"),
    ("PHONE_NUMBER", "+1-212-555-0175"),
    ("PHONE_NUMBER", "07400 123456"),
    ("PHONE_NUMBER", "06 12 34 56 78"),
    ("PHONE_NUMBER", "+８１ ９０ １２３４ ５６７８"),
    ("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
    ("IBAN_CODE", "gb82west12345698765432"),
    ("CREDIT_CARD", "4111 1111 1111 1111"),
    ("CREDIT_CARD", "378282246310005"),
    ("CREDIT_CARD", "2221-0000-0000-0009"),
    ("IP_ADDRESS", "192.168.0.17"),
    ("IP_ADDRESS", "2001:db8::1"),
    ("CRYPTO", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"),
    ("US_SSN", "512-45-6788"),
]
KEPT = [
    "Apollo 13 (1995)",
    "2001: A Space Odyssey (1968)",
    "200 Cigarettes (1999), 8 1/2 (1963), Fahrenheit 9/11 (2004)",
    "seen in 1962 1963 1964 1965",  # passes the checksum of a card
    "ISBN 0-439-02348-3, ISBN-13: 978-0-439-02348-3, 9780439023481, 0439023483",
    "ASIN B01MXXKD9K, UPC 012345678905, EAN 4006381333931, part no. 123-456-7890",
    "$1,299.00, 10,000,000 views, 1920x1080 60Hz, 5V@3.1A",
    "12/05/2019 10:30:45, 2019-05-12T10:30:45Z",
    "OPI 06000 100, model 2125550175",
    "4111 1111 1111 1112",  # a wrong checksum
    "DE88 3704 0044 0532 0130 00",
    "Serum For-Face:: Organic",  # by its letters an IPv6 address
    "@anna and user@localhost, https://example.org/a?b=1",
]


@cache
def scrubber() -> Scrubber:
    return Scrubber(ScrubConfig())


@pytest.mark.parametrize(("kind", "written"), FOUND)
def test_each_kind_is_found_and_the_rest_stays_to_the_letter(kind: str, written: str) -> None:
    text, counts = scrubber().scrub(f"  Good,\n but ({written}), see {written}. ")
    assert text == f"  Good,\n but (<{kind}>), see <{kind}>. "
    assert counts == {kind: 2}


@pytest.mark.parametrize("text", KEPT)
def test_titles_prices_years_and_numbers_of_products_stay(text: str) -> None:
    assert scrubber().scrub(text) == (text, {})


def test_every_country_s_numbers_are_found_in_their_international_form() -> None:
    formats = (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164)
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        numbers = [phonenumbers.example_number_for_type(region, kind) for kind in kinds]
        for number in filter(None, numbers):
            for form in formats:
                text = f"mine: {phonenumbers.format_number(number, form)}, bye"
                assert scrubber().scrub(text).text == "mine: <PHONE_NUMBER>, bye", region


def test_bare_digits_are_a_number_where_a_word_says_so() -> None:
    assert scrubber().scrub("call me at 2125550175").text == "call me at <PHONE_NUMBER>"
    assert Scrubber(ScrubConfig(min_score=0.4)).scrub("model 2125550175").text == "model <PHONE_NUMBER>"


def test_a_login_in_a_url_goes_and_its_path_stays() -> None:
    text, counts = scrubber().scrub("see https://anna:s3cret@localhost/shop and https://example.org/x")
    assert text == "see https://<CREDENTIALS>localhost/shop and https://example.org/x"
    assert counts == {"CREDENTIALS": 1}


def test_kinds_and_regions_are_those_of_the_configuration() -> None:
    mails = Scrubber(ScrubConfig(kinds=("EMAIL_ADDRESS",)))
    assert mails.scrub("anna@example.org, 192.168.0.17").text == "<EMAIL_ADDRESS>, 192.168.0.17"
    danish = Scrubber(ScrubConfig(phone_regions=("DK",)))
    assert danish.scrub("ring: tel. 32 12 34 56, (212) 555-0175").text == "ring: tel. <PHONE_NUMBER>, (212) 555-0175"
    with pytest.raises(ConfigError, match=r"names what is no region\.(.|\n)*got: XX"):
        Scrubber(ScrubConfig(phone_regions=("XX",))).scrub("1")


PIECES = st.sampled_from(
    [*(written for _, written in FOUND), *KEPT, "<EMAIL_ADDRESS>", "<PHONE", "@", "+", "://", ".", " ", "0", "7", "-"]
)


@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
@example("a@b.org@c.org")
@example("+49 30 901820 4111 1111 1111 1111 030 901820")
@example("https://<PHONE_NUMBER>:x@example.org <EMAIL_ADDRESS>@example.org")
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    once, counts = scrubber().scrub(text)
    assert scrubber().scrub(once) == (once, {})
    assert bool(counts) == (once != text)
    assert set(counts) <= set(get_args(ScrubKind))


def test_a_long_text_takes_no_longer_than_its_length(caplog: pytest.LogCaptureFixture) -> None:
    """Presidio's own pattern of a mail address takes a minute for this one and then gives up."""
    caplog.set_level(logging.DEBUG)
    text, _ = scrubber().scrub("a." * 30_000 + " anna@example.org")
    assert text.endswith(" <EMAIL_ADDRESS>")
    assert "anna" not in caplog.text


def test_names_of_people_are_found_by_a_model_that_is_given(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("de")
    rules = model.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "PER", "pattern": "Anna Quist"}, {"label": "PER", "pattern": "PERSON"}])
    model.to_disk(tmp_path / "model")
    named = Scrubber(ScrubConfig(person_model=str(tmp_path / "model")))
    once = named.scrub("Anna Quist schrieb an bo@example.org")
    assert once == ("<PERSON> schrieb an <EMAIL_ADDRESS>", {"PERSON": 1, "EMAIL_ADDRESS": 1})
    assert named.scrub(once.text) == (once.text, {})
    assert named.address["releases"]["person_model"]
    with pytest.raises(ConfigError, match="no such spaCy model"):
        Scrubber(ScrubConfig(person_model="xx_no_such_model"))


def test_without_presidio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing_presidio(monkeypatch)
    with pytest.raises(ConfigError, match=r"pip install 'lorefuse\[privacy\]'") as error:
        Scrubber(ScrubConfig())
    assert error.value.exit_code == 2


def test_the_examples_of_the_page_are_true() -> None:
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text("utf-8")
    settings = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    parsed = [parse_config(yaml.safe_load(block)).privacy for block in settings]
    assert [one.scrub_texts for one in parsed if one] == ["users", "all"]
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        exec(block, {})
