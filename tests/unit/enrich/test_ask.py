"""Asking: what is retried, what is kept, what is quarantined, what it costs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lorefuse.config import EnrichConfig
from lorefuse.core.errors import ArtifactError, ConfigError, UnreachableError
from lorefuse.enrich.answers import Answer, AnswerStore
from lorefuse.enrich.ask import address, ask_all
from lorefuse.enrich.prompts import ITEM_QUESTIONS, USER_QUESTIONS, Messages, question, title_list
from tests.helpers.chat_endpoint import NUM_WORDS, Endpoint


def config_of(**options: object) -> EnrichConfig:
    return EnrichConfig.model_validate({"model": "tiny", "concurrency": 1, "max_retries": 3, "timeout_s": 20} | options)


def chats(*subjects: str) -> dict[str, Messages]:
    return {subject: [{"role": "user", "content": f"word1 word2 {subject}"}] for subject in subjects}


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "answers" / "answers.sqlite")


def test_answers_are_written_counted_priced_and_asked_once(endpoint: Endpoint, store: AnswerStore) -> None:
    config = config_of(input_price=2.0, output_price=10.0)
    subjects = chats("word3", "word4")
    answers, report = ask_all(subjects | {"twin": subjects["word3"]}, "t@1", config, store)
    assert len(endpoint.chats) == 2
    assert answers["twin"] == answers["word3"]
    assert len(answers["word3"].text.split()) == NUM_WORDS
    assert report["prompt_tokens"] == 2 * 3
    assert report["completion_tokens"] == 2 * NUM_WORDS
    assert report["cost"] == pytest.approx((6 * 2 + 12 * 10) / 1e6)
    assert (report["num_subjects"], report["num_asked"], report["num_cached"]) == (3, 2, 0)
    again, report = ask_all(subjects, "t@1", config, store)
    assert again["word3"].text == answers["word3"].text
    assert (report["num_asked"], report["num_cached"], report["cost"]) == (0, 2, 0)
    assert len(endpoint.chats) == 2


@pytest.mark.parametrize("mishap", [429, 500, 503, "malformed", "odd"])
def test_a_mishap_is_tried_again(endpoint: Endpoint, store: AnswerStore, mishap: int | str) -> None:
    endpoint.script = [mishap]
    answers, report = ask_all(chats("word3"), "t@1", config_of(), store)
    assert not answers["word3"].fault
    assert report["num_retries"] == 1
    assert len(endpoint.chats) == 2


def test_an_answer_that_takes_too_long_is_asked_for_again(endpoint: Endpoint, store: AnswerStore) -> None:
    endpoint.script = ["slow"]
    answers, report = ask_all(chats("word3"), "t@1", config_of(timeout_s=0.7), store)
    assert not answers["word3"].fault
    assert report["num_retries"] == 1


@pytest.mark.parametrize(
    ("mishap", "options", "fault"),
    [
        ("empty", {}, "empty"),
        ("", {"max_answer_tokens": NUM_WORDS - 1}, "truncated"),
        (400, {}, "refused"),
        ("malformed", {"max_retries": 0}, "malformed"),
    ],
)
def test_a_bad_answer_is_counted_and_never_kept(
    endpoint: Endpoint, store: AnswerStore, mishap: int | str, options: dict[str, object], fault: str
) -> None:
    endpoint.script = [mishap]
    answers, report = ask_all(chats("word3", "word4"), "t@1", config_of(**options), store)
    assert answers["word3"].fault.startswith(fault)
    assert report["faults"][fault] == report["num_quarantined"]
    _, second = ask_all(chats("word3"), "t@1", config_of(**options), store)
    assert (second["num_cached"], second["num_asked"]) == (0, 1)


def test_an_endpoint_without_usage_counts_nothing(endpoint: Endpoint, store: AnswerStore) -> None:
    endpoint.script = ["no usage"]
    answers, report = ask_all(chats("word3"), "t@1", config_of(), store)
    assert answers["word3"].text
    assert report["prompt_tokens"] == 0


def test_a_run_that_breaks_off_keeps_what_it_has(endpoint: Endpoint, store: AnswerStore) -> None:
    endpoint.script = ["", "", 500]
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        ask_all(chats("word3", "word4", "word5"), "t@1", config_of(max_retries=0), store)
    assert "fix:" in str(caught.value)
    answers, report = ask_all(chats("word3", "word4", "word5"), "t@1", config_of(max_retries=0), store)
    assert (report["num_cached"], report["num_asked"]) == (2, 1)
    assert all(answer.text for answer in answers.values())


def test_no_more_at_once_than_allowed(endpoint: Endpoint, store: AnswerStore) -> None:
    endpoint.wait_s = 0.1
    ask_all(chats(*(f"word{n}" for n in range(8))), "t@1", config_of(concurrency=3), store)
    assert endpoint.most_at_once == 3


def test_spending_stops_at_its_limit(endpoint: Endpoint, store: AnswerStore) -> None:
    config = config_of(output_price=1e6, max_cost=NUM_WORDS + 1)
    answers, report = ask_all(chats("word3", "word4", "word5", "word6"), "t@1", config, store)
    assert len(endpoint.chats) == 2
    assert report["cost"] == 2 * NUM_WORDS
    assert report["faults"] == {"unasked": 2}
    assert report["num_asked"] == 2
    assert answers["word6"].fault.startswith("unasked")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("LOREFUSE_LLM_URL", "", "no language model"), ("LOREFUSE_LLM_KEY", "wrong", "refuses")],
)
def test_settings_that_lead_nowhere(
    endpoint: Endpoint, store: AnswerStore, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=said) as caught:
        ask_all(chats("word3"), "t@1", config_of(), store)
    assert variable in str(caught.value)


def test_the_key_is_never_shown(endpoint: Endpoint) -> None:
    from lorefuse.core.settings import settings

    assert settings().llm_key == "sesame"
    assert "sesame" not in repr(settings())


def test_nobody_there(endpoint: Endpoint, store: AnswerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_LLM_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        ask_all(chats("word3"), "t@1", config_of(max_retries=0), store)


def test_all_that_decides_an_answer_is_in_its_address() -> None:
    messages = chats("word3")["word3"]
    known = [address(messages, "t@1", config_of())]
    known += [address(messages, "t@1", config_of(**change)) for change in ({"model": "x"}, {"temperature": 0.5})]
    known += [address(messages, "t@1", config_of(max_answer_tokens=9)), address(messages, "t@2", config_of())]
    known += [address(chats("word4")["word4"], "t@1", config_of())]
    assert len(set(known)) == len(known)
    assert address(messages, "t@1", config_of(concurrency=9, input_price=3.0, timeout_s=1)) == known[0]


def test_a_store_that_cannot_be_used_is_left_as_it_is(store: AnswerStore) -> None:
    store.put("a", Answer("text", 1, 2))
    assert store.get(["a", "b"]) == {"a": Answer("text", 1, 2)}
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    for file in store.path.parent.iterdir():
        file.unlink()
    store.path.write_bytes(b"not a database" * 100)
    with pytest.raises(ArtifactError, match="store of answers"):
        store.get(["a"])
    assert store.path.read_bytes().startswith(b"not a database")


def test_questions_hold_the_subject_as_it_is() -> None:
    for questions in (ITEM_QUESTIONS, USER_QUESTIONS):
        for asked in questions.values():
            content = asked.about("{subject} {0} 黑客帝国")[1]["content"]
            assert content.count("{subject} {0} 黑客帝国") == 1
    assert title_list(["A\nB", "C"]) == "- A B\n- C"
    with pytest.raises(ConfigError, match="no question"):
        question("item_facts@9", ITEM_QUESTIONS, "enrich.item_prompt")
