"""Ask a language model many questions at once: retries, known answers, counted tokens, and no bad answer kept."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from lorefuse.config import EnrichConfig
from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import ConfigError, UnreachableError
from lorefuse.core.progress import track
from lorefuse.core.settings import settings
from lorefuse.enrich.answers import Answer, AnswerStore
from lorefuse.enrich.prompts import Messages

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_UNASKED = Answer("", fault="unasked: enrich.max_cost is spent")
_FAULTS_TO_RETRY = ("malformed",)


@dataclass
class Spending:
    """Tokens and what they cost, counted by all threads.

    Attributes:
        prompt_tokens: Of every answer that arrived, bad ones too.
        completion_tokens: Of every answer that arrived, bad ones too.
        num_retries: Tries after the first.
    """

    config: EnrichConfig
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer) -> None:
        """Count the tokens of an answer."""
        with self._lock:
            self.prompt_tokens += answer.prompt_tokens
            self.completion_tokens += answer.completion_tokens

    def retry(self, count: int = 1) -> None:
        """Count tries."""
        with self._lock:
            self.num_retries += count

    @property
    def cost(self) -> float:
        """Price of the tokens so far."""
        return (
            self.prompt_tokens * self.config.input_price + self.completion_tokens * self.config.output_price
        ) / 1_000_000


class Endpoint:
    """An OpenAI-compatible chat endpoint, from LOREFUSE_LLM_URL and LOREFUSE_LLM_KEY.

    Args:
        config: Model, parameters, retries, timeout.

    Raises:
        ConfigError: No URL is set, or the package `openai` is not installed.
    """

    def __init__(self, config: EnrichConfig) -> None:
        try:
            import openai
        except ImportError:
            raise ConfigError(
                "Asking a language model needs the package openai, which is not installed.",
                fix="pip install 'lorefuse[enrich]'",
            ) from None
        here = settings()
        if not here.llm_url:
            raise ConfigError(
                "There is no language model to ask.",
                expected="the base URL of an OpenAI-compatible endpoint in LOREFUSE_LLM_URL",
                fix="export LOREFUSE_LLM_URL=http://127.0.0.1:8000/v1 (and LOREFUSE_LLM_KEY where it wants a key)",
            )
        self.config, self.url, self.spending = config, here.llm_url, Spending(config)
        # A key must be given to the client; endpoints without one ignore it.
        self._client = openai.OpenAI(
            base_url=here.llm_url,
            api_key=here.llm_key or "none",
            timeout=config.timeout_s,
            max_retries=config.max_retries,
        )

    def ask(self, messages: Messages) -> Answer:
        """Ask one question; the client backs off and tries again after 429, 5xx, timeouts and lost connections.

        Raises:
            ConfigError: The endpoint refuses the key, or knows no such model.
            UnreachableError: It does not answer, however often it is asked.
        """
        for attempt in range(self.config.max_retries + 1):
            answer = self._ask_once(messages)
            self.spending.add(answer)
            if answer.fault not in _FAULTS_TO_RETRY or attempt == self.config.max_retries:
                break
            self.spending.retry()
            time.sleep(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))
        return answer

    def _ask_once(self, messages: Messages) -> Answer:
        import openai

        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.config.model,
                messages=messages,  # type: ignore[arg-type]
                temperature=self.config.temperature,
                max_tokens=self.config.max_answer_tokens,
            )
            self.spending.retry(raw.retries_taken)
            return _read(json.loads(raw.text))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ConfigError(
                f"{self.url} refuses the question.",
                expected=f"a key that is valid and a model {self.config.model!r}",
                got=_first_line(error),
                fix="correct LOREFUSE_LLM_URL, LOREFUSE_LLM_KEY or enrich.model",
            ) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Answer("", fault=f"refused: {_first_line(error)}")
        except (openai.APIConnectionError, openai.APIStatusError) as error:
            raise UnreachableError(
                f"{self.url} does not answer, asked {self.config.max_retries + 1} times.",
                expected="an endpoint that answers; what it answered so far is kept",
                got=_first_line(error),
                fix="run again later, or lower enrich.concurrency, or raise enrich.max_retries or enrich.timeout_s",
            ) from None
        except ValueError:
            return Answer("", fault="malformed")


def _read(content: Any) -> Answer:
    """Read a chat completion, trusting none of it."""
    try:
        choice = content["choices"][0]
        text = choice["message"].get("content") or ""
        reason = choice.get("finish_reason")
        usage = content.get("usage") or {}
        prompt_tokens, completion_tokens = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
        text = text.strip()
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return Answer("", fault="malformed")
    if reason == "content_filter":
        fault = "filtered"
    elif not text:
        fault = "empty"
    else:
        fault = "truncated" if reason == "length" else ""
    return Answer(text, prompt_tokens, completion_tokens, fault)


def ask_all(
    questions: Mapping[str, Messages], name: str, config: EnrichConfig, store: AnswerStore
) -> tuple[dict[str, Answer], dict[str, Any]]:
    """Ask what is not known yet; each good answer is stored at once, so a killed run goes on where it was.

    Args:
        questions: Chat by the id it is about. Equal chats are asked once.
        name: Name and version of the template, part of an answer's address.
        config: Model, parameters, limits, prices.
        store: Known answers.

    Returns:
        Answer by id, with a fault where it is bad; and a report: num_subjects, num_cached, num_asked, num_quarantined,
        faults, num_retries, prompt_tokens, completion_tokens, cost (of this call) and elapsed_s.

    Raises:
        ConfigError: There is no endpoint, or it refuses the key or the model.
        UnreachableError: The endpoint does not answer.
        ArtifactError: The store cannot be used.
    """
    start_s = time.perf_counter()
    address_of = {subject: address(messages, name, config) for subject, messages in questions.items()}
    answers = store.get(list(dict.fromkeys(address_of.values())))
    num_cached = len(answers)
    missing = {address_of[subject]: messages for subject, messages in questions.items()}
    missing = {key: messages for key, messages in missing.items() if key not in answers}
    spending = Spending(config)
    if missing:
        endpoint = Endpoint(config)
        spending = endpoint.spending
        _ask_missing(endpoint, missing, answers, store)
    faults = Counter(answer.fault.split(":")[0] for answer in answers.values() if answer.fault)
    report = {
        "num_subjects": len(questions),
        "num_cached": num_cached,
        "num_asked": len(missing) - faults.get("unasked", 0),
        "num_quarantined": sum(faults.values()),
        "faults": dict(sorted(faults.items())),
        "num_retries": spending.num_retries,
        "prompt_tokens": spending.prompt_tokens,
        "completion_tokens": spending.completion_tokens,
        "cost": round(spending.cost, 6),
        "elapsed_s": round(time.perf_counter() - start_s, 2),
    }
    return {subject: answers[key] for subject, key in address_of.items()}, report


def _ask_missing(
    endpoint: Endpoint, missing: Mapping[str, Messages], answers: dict[str, Answer], store: AnswerStore
) -> None:
    limit = endpoint.config.max_cost

    def work(key: str, messages: Messages) -> Answer:
        if limit is not None and endpoint.spending.cost >= limit:
            return _UNASKED
        answer = endpoint.ask(messages)
        if not answer.fault:  # stored before the next is asked: what was paid for is not lost by a kill
            store.put(key, answer)
        return answer

    workers = ThreadPoolExecutor(endpoint.config.concurrency, "lorefuse-ask")
    try:
        futures = {workers.submit(work, key, messages): key for key, messages in missing.items()}
        for future in track(as_completed(futures), "Asking the language model", total=len(futures)):
            answers[futures[future]] = future.result()
    finally:
        workers.shutdown(cancel_futures=True)


def address(messages: Messages, name: str, config: EnrichConfig) -> str:
    """Return the sha256 over all that decides an answer: model, template, text and parameters."""
    parameters = {"temperature": config.temperature, "max_tokens": config.max_answer_tokens}
    return sha256_json({"model": config.model, "template": name, "messages": messages, "parameters": parameters})


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
