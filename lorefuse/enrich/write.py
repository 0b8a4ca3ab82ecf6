"""Knowledge about items and users, written by a language model: `knowledge.parquet`.

An item has one text. A user has several, of liked train titles alone, each up to a moment that it carries along; the
split is asked, and rows of other parts are refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.config import EnrichConfig
from lorefuse.config.privacy import ScrubConfig
from lorefuse.core.atomic import atomic_file, write_json
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, ROW_ID, USER_ID
from lorefuse.core.settings import settings
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.written import KNOWLEDGE_FILE
from lorefuse.enrich.answers import Answer, AnswerStore
from lorefuse.enrich.ask import ask_all
from lorefuse.enrich.guard import refuse_unscrubbed
from lorefuse.enrich.histories import QUESTION, user_histories
from lorefuse.enrich.prompts import ITEM_QUESTIONS, Messages, question

FACTS_FILE, QUARANTINE_FILE = "knowledge.json", "quarantine.jsonl"
DEFAULT_SCRUB = ScrubConfig()


def write_item_knowledge(
    dataset: Dataset, config: EnrichConfig, out_path: Path, scrub: ScrubConfig = DEFAULT_SCRUB
) -> dict[str, Any]:
    """Ask about every item that has a text.

    Args:
        dataset: The dataset; its item_text roles describe an item. No interaction is read.
        config: Model, question, limits, prices.
        out_path: Empty folder to fill: `knowledge.parquet` (item_id, text), `knowledge.json`, `quarantine.jsonl`.
        scrub: What no question may hold.

    Returns:
        The report of `ask_all` on this call, with model, template, num_written, and tokens_of_all: what the written
        texts cost when they were asked.

    Raises:
        ConfigError: There is no such question, no endpoint, or it refuses the key or the model; or nothing looks for
            people's data.
        DataError: A question holds people's data, and `send_unscrubbed` is not set.
        UnreachableError: The endpoint does not answer; what was answered is kept for the next run.
    """
    asked = question(config.item_prompt, ITEM_QUESTIONS, "enrich.item_prompt")
    items = dataset.items()
    texts = item_texts(items, dataset.roles.item_text, "default@1")
    questions = {str(item_id): asked.about(text) for item_id, text in zip(items[ITEM_ID], texts, strict=True) if text}
    about = pd.DataFrame({ITEM_ID: list(questions)}, index=list(questions), dtype="string")
    return _write(questions, about, config.item_prompt, config, None, out_path, scrub)


def write_user_knowledge(
    dataset: Dataset,
    split_path: Path,
    config: EnrichConfig,
    out_path: Path,
    row_ids: Sequence[int] | None = None,
    scrub: ScrubConfig = DEFAULT_SCRUB,
) -> dict[str, Any]:
    """Ask about every user with a liked train row, as of several moments of the train history (`user_histories`).

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        config: Model, question, texts a user, limits, prices.
        out_path: Empty folder to fill, as for items; with user_id, the row_id and event_timestamp that the text ends
            with (its own cutoff), and the digest of what was asked.
        row_ids: Read these train rows alone.
        scrub: What no question may hold.

    Returns:
        As for items, with the data cutoff.

    Raises:
        LeakError: A row of `row_ids` is not train.
        ConfigError: There is no such question, no endpoint, or it refuses the key or the model; or nothing looks for
            people's data.
        DataError: A question holds people's data, and `send_unscrubbed` is not set.
        UnreachableError: The endpoint does not answer; what was answered is kept for the next run.
    """
    parts = user_histories(dataset, split_path, config.num_titles, num_texts=config.texts_per_user, row_ids=row_ids)
    questions = {str(part.row_id): part.asked(config.user_prompt) for part in parts}
    about = pd.DataFrame(
        {
            USER_ID: [part.user_id for part in parts],
            ROW_ID: [part.row_id for part in parts],
            EVENT_TIMESTAMP: [part.event_timestamp for part in parts],
            QUESTION: [part.digest(config.user_prompt) for part in parts],
        },
        index=list(questions),
    )
    cutoff = str(load_split(split_path)[1]["data_cutoff"])
    return _write(questions, about, config.user_prompt, config, cutoff, out_path, scrub)


def _write(
    questions: dict[str, Messages],
    about: pd.DataFrame,
    template: str,
    config: EnrichConfig,
    cutoff: str | None,
    out_path: Path,
    scrub: ScrubConfig,
) -> dict[str, Any]:
    """Ask and write; `about` holds the key columns of each subject, the id first."""
    if not config.send_unscrubbed:
        refuse_unscrubbed(questions.values(), scrub)
    store = AnswerStore(settings().cache_path / "answers.sqlite")
    answers, report = ask_all(questions, template, config, store)
    good = {subject: answer.text for subject, answer in answers.items() if not answer.fault}
    key = str(about.columns[0])
    frame = about.loc[list(good)].assign(text=pd.array(list(good.values()), dtype="string"))
    frame[key] = frame[key].astype("string")
    with atomic_file(out_path / KNOWLEDGE_FILE) as draft_path:
        frame.to_parquet(draft_path, index=False)
    bad = {subject: answer for subject, answer in answers.items() if answer.fault}
    _write_quarantine(about, bad, out_path)
    facts = {
        "about": key,
        "model": config.model,
        "template": template,
        "parameters": {"temperature": config.temperature, "max_answer_tokens": config.max_answer_tokens},
        "num_titles": config.num_titles,
        "num_written": len(good),
        "data_cutoff": cutoff,
        "tokens_of_all": {
            "prompt": sum(answer.prompt_tokens for answer in answers.values() if not answer.fault),
            "completion": sum(answer.completion_tokens for answer in answers.values() if not answer.fault),
        },
    }
    # What this very call cost stays out of the folder: the same knowledge has the same bytes, asked or known.
    write_json(out_path / FACTS_FILE, facts)
    return {**facts, **report}


def _write_quarantine(about: pd.DataFrame, bad: dict[str, Answer], out_path: Path) -> None:
    key = str(about.columns[0])
    lines = [
        json.dumps({key: about.at[subject, key], "fault": answer.fault, "text": answer.text}, ensure_ascii=False)
        for subject, answer in bad.items()
    ]
    with atomic_file(out_path / QUARANTINE_FILE) as draft_path:
        draft_path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
