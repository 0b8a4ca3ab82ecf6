"""MIND, the Microsoft news dataset: impressions with clicks and with real negatives.

Origin: Wu et al., "MIND: A Large-scale Dataset for News Recommendation" (ACL 2020); the format is described at
learn.microsoft.com/azure/open-datasets/dataset-microsoft-news. Under the Microsoft Research License Terms it may be
used for research and not be passed on: it is fetched to the user's cache and never committed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import pandas as pd

from lorefuse.config.sources import MINDSource
from lorefuse.core.errors import DataError
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, USER_ID, VALUE
from lorefuse.data.archives import open_member
from lorefuse.data.download import fetch_url
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.tables import RawTables, Roles

ADDRESS = "https://recodatasets.z20.web.core.windows.net/newsrec"
BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
SEPARATOR = "\x1f"
ROLES = Roles(
    item_text=("title", "abstract", "category", "subcategory"),
    item_title="title",
    item_categories=("category", "subcategory"),
    item_multi_categories=("entities",),
)


def read_mind(source: MINDSource, quarantine: Quarantine) -> RawTables:
    """Read impressions (value 1: clicked, 0: shown and passed over) and the news they show.

    The clicks of the history column have no time of their own, only an order, and lie before the log: they become
    likes one second apart that end one second before the log's first impression. The longest history of a user counts.

    Args:
        source: Folders or zips, or the size to fetch.
        quarantine: Receives lines that cannot be read.

    Raises:
        DataError: A file is missing or holds no labelled impression.
        UnreachableError: The server does not answer.
    """
    paths = [path for path in (source.train_path, source.dev_path) if path is not None]
    if not paths:
        paths = [fetch_url(f"{ADDRESS}/MIND{source.size}_{part}.zip") for part in ("train", "dev")]
    events: list[tuple[str, str, str, str, int]] = []
    histories: dict[str, tuple[list[str], int]] = {}
    news: dict[str, tuple[str, ...]] = {}
    news_lines: dict[str, int] = {}
    for path in paths:
        with open_member(path, NEWS) as stream:
            for line, cells in _rows(stream, f"{path.name}/{NEWS}", (8,), quarantine):
                if cells[0] not in news:
                    news[cells[0]] = (*cells[1:5], SEPARATOR.join(_entities(cells[6:8])))
                    news_lines[cells[0]] = line
        with open_member(path, BEHAVIORS) as stream:
            _read_behaviors(stream, f"{path.name}/{BEHAVIORS}", events, histories, quarantine)
    if not events:
        raise DataError(
            f"There is no labelled impression in {', '.join(str(path) for path in paths)}.",
            expected="impressions like N1-1 N2-0",
            got="none (the test set of MIND has no labels)",
            fix="name the folders of the train and dev sets",
        )
    columns = [USER_ID, ITEM_ID, EVENT_TIMESTAMP, VALUE, LINE]
    table = pd.DataFrame(events, columns=columns)
    table[EVENT_TIMESTAMP] = pd.to_datetime(table[EVENT_TIMESTAMP], format=TIME_FORMAT, errors="coerce", utc=True)
    if source.history:
        table = pd.concat([_history_rows(histories, table[EVENT_TIMESTAMP].min()), table], ignore_index=True)
    items = pd.DataFrame.from_dict(
        news, orient="index", columns=["category", "subcategory", "title", "abstract", "entities"]
    )
    items = items.rename_axis(ITEM_ID).reset_index().assign(**{LINE: list(news_lines.values())})
    items = items[items[ITEM_ID].isin(set(table[ITEM_ID]))].reset_index(drop=True)
    return RawTables(
        interactions=table,
        items=items,
        users=None,
        triples=None,
        links=None,
        roles=ROLES,
        files={"interactions": f"{paths[0].name}/{BEHAVIORS}", "items": f"{paths[0].name}/{NEWS}"},
        source={"kind": source.kind, "origin": [str(path) for path in paths], "history": source.history},
        multi_separator=SEPARATOR,
        reports={"num_history_clicks": len(table) - len(events), "num_news_never_shown": len(news) - len(items)},
    )


def _rows(
    stream: IO[bytes], name: str, widths: tuple[int, ...], quarantine: Quarantine
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every line with the right number of cells; quotes have no meaning here."""
    for line, raw in enumerate(track(stream, f"Reading {name}"), start=1):
        if not raw.strip():
            continue
        quarantine.num_rows_read[name] += 1
        try:
            cells = raw.decode("utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            quarantine.add(name, line, "not UTF-8", raw[:500].decode("utf-8", "replace"))
            continue
        if len(cells) in widths:
            yield line, cells
        else:
            reason = f"wrong number of cells: {len(cells)}, expected {widths[0]}"
            quarantine.add(name, line, reason, raw[:500].decode("utf-8", "replace"))


def _read_behaviors(
    stream: IO[bytes],
    name: str,
    events: list[tuple[str, str, str, str, int]],
    histories: dict[str, tuple[list[str], int]],
    quarantine: Quarantine,
) -> None:
    for line, (_, user, time, history, impressions) in _rows(stream, name, (5,), quarantine):
        shown = [item.rpartition("-") for item in impressions.split()]
        if not shown or any(label not in ("0", "1") or not item for item, _, label in shown):
            quarantine.add(name, line, "impression without a click label", impressions[:500])
            continue
        events.extend((user, item, time, label, line) for item, _, label in shown)
        clicked = history.split()
        if len(clicked) > len(histories.get(user, ([], 0))[0]):
            histories[user] = clicked, line


def _history_rows(histories: dict[str, tuple[list[str], int]], log_start: pd.Timestamp) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for user, (clicked, line) in histories.items():
        for position, item in enumerate(clicked):
            rows.append((user, item, log_start - pd.Timedelta(seconds=len(clicked) - position), "1", line))
    return pd.DataFrame(rows, columns=[USER_ID, ITEM_ID, EVENT_TIMESTAMP, VALUE, LINE])


def _entities(cells: list[str]) -> list[str]:
    """Return the labels of the linked Wikidata entities of title and abstract, each once."""
    labels: dict[str, None] = {}
    for cell in cells:
        try:
            found = json.loads(cell) if cell.strip() else []
        except ValueError:
            continue  # entities are an extra: a news with a broken list is still a news
        labels |= {str(entity["Label"]): None for entity in found if isinstance(entity, dict) and entity.get("Label")}
    return list(labels)
