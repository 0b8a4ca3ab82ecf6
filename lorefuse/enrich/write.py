"""Knowledge about items and users, written by a language model: `knowledge.parquet`, one text per id.

A user's text is made of that user's liked train titles alone; the split is asked, and rows of other parts are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse import contract as c
from lorefuse.atomic import atomic_file, write_json
from lorefuse.config import EnrichConfig
from lorefuse.contract import Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.consumption import liked_train
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.written import KNOWLEDGE_FILE
from lorefuse.enrich.answers import Answer, AnswerStore
from lorefuse.enrich.ask import ask_all
from lorefuse.enrich.prompts import ITEM_QUESTIONS, USER_QUESTIONS, Messages, question, title_list
from lorefuse.errors import LeakError
from lorefuse.settings import settings

FACTS_FILE, QUARANTINE_FILE = "knowledge.json", "quarantine.jsonl"


def write_item_knowledge(dataset: Dataset, config: EnrichConfig, out_path: Path) -> dict[str, Any]:
    """Ask about every item that has a text.

    Args:
        dataset: The dataset; its item_text roles describe an item. No interaction is read.
        config: Model, question, limits, prices.
        out_path: Empty folder to fill: `knowledge.parquet` (item_id, text), `knowledge.json`, `quarantine.jsonl`.

    Returns:
        The report of `ask_all` on this call, with model, template, num_written, and tokens_of_all: what the written
        texts cost when they were asked.

    Raises:
        ConfigError: There is no such question, no endpoint, or it refuses the key or the model.
        UnreachableError: The endpoint does not answer; what was answered is kept for the next run.
    """
    asked = question(config.item_prompt, ITEM_QUESTIONS, "enrich.item_prompt")
    items = dataset.items()
    texts = item_texts(items, dataset.roles.item_text, "default@1")
    questions = {str(item_id): asked.about(text) for item_id, text in zip(items[c.ITEM_ID], texts, strict=True) if text}
    return _write(questions, c.ITEM_ID, config.item_prompt, config, None, out_path)


def write_user_knowledge(
    dataset: Dataset, split_path: Path, config: EnrichConfig, out_path: Path, row_ids: Sequence[int] | None = None
) -> dict[str, Any]:
    """Ask about every user with a liked train row.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        config: Model, question, limits, prices.
        out_path: Empty folder to fill, as for items, with user_id.
        row_ids: Read these train rows alone.

    Returns:
        As for items, with the data cutoff.

    Raises:
        LeakError: A row of `row_ids` is not train.
        ConfigError: There is no such question, no endpoint, or it refuses the key or the model.
        UnreachableError: The endpoint does not answer; what was answered is kept for the next run.
    """
    asked = question(config.user_prompt, USER_QUESTIONS, "enrich.user_prompt")
    titles_of = user_titles(dataset, split_path, config.num_titles, row_ids)
    questions = {user_id: asked.about(title_list(titles)) for user_id, titles in titles_of.items()}
    cutoff = str(load_split(split_path)[1]["data_cutoff"])
    return _write(questions, c.USER_ID, config.user_prompt, config, cutoff, out_path)


def user_titles(
    dataset: Dataset, split_path: Path, num_titles: int, row_ids: Iterable[int] | None = None
) -> dict[str, list[str]]:
    """Return each user's latest liked train titles, the latest last; users without any are left out.

    Args:
        dataset: The dataset.
        split_path: Which rows are train.
        num_titles: How many at most.
        row_ids: Read these train rows alone.

    Raises:
        LeakError: A row of `row_ids` is not train: a text of it would know what is to be predicted.
    """
    liked = liked_train(dataset, split_path)
    if row_ids is not None:
        wanted = set(row_ids)
        parts = load_split(split_path)[0]
        train = set(parts.loc[parts[c.SPLIT] == Split.TRAIN, c.ROW_ID].tolist())
        if wanted - train:
            raise LeakError(
                "Knowledge about users may be written from train rows alone.",
                expected=f"rows that are {Split.TRAIN} in {split_path}",
                got=f"{len(wanted - train)} others, e.g. row {min(wanted - train)}",
                fix="leave them out",
            )
        liked = liked[liked[c.ROW_ID].isin(wanted)]
    items = dataset.items()
    title_of = pd.Series(items[dataset.roles.item_title].to_numpy(), index=items[c.ITEM_ID])
    titles = liked[c.ITEM_ID].map(title_of)
    named = pd.DataFrame({"user": liked[c.USER_ID].astype(str), "title": titles}).dropna()
    latest = named.groupby("user", sort=True).tail(num_titles)
    return {str(user): group["title"].astype(str).tolist() for user, group in latest.groupby("user", sort=True)}


def _write(
    questions: dict[str, Messages], key: str, template: str, config: EnrichConfig, cutoff: str | None, out_path: Path
) -> dict[str, Any]:
    store = AnswerStore(settings().cache_path / "answers.sqlite")
    answers, report = ask_all(questions, template, config, store)
    good = {subject: answer.text for subject, answer in answers.items() if not answer.fault}
    frame = pd.DataFrame({key: list(good), "text": list(good.values())}, dtype="string")
    with atomic_file(out_path / KNOWLEDGE_FILE) as draft_path:
        frame.to_parquet(draft_path, index=False)
    _write_quarantine({subject: answer for subject, answer in answers.items() if answer.fault}, key, out_path)
    facts = {
        "about": key,
        "model": config.model,
        "template": template,
        "parameters": {"temperature": config.temperature, "max_answer_tokens": config.max_answer_tokens},
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


def _write_quarantine(bad: dict[str, Answer], key: str, out_path: Path) -> None:
    lines = [
        json.dumps({key: subject, "fault": answer.fault, "text": answer.text}, ensure_ascii=False)
        for subject, answer in bad.items()
    ]
    with atomic_file(out_path / QUARANTINE_FILE) as draft_path:
        draft_path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
