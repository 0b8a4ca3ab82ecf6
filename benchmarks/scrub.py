"""What the scrubber takes out of real texts of shops, at several scores, and how long it takes.

Nobody wrote these titles and descriptions about themselves: nearly all that is found in them is an error, but for
the telephone numbers of shops in the descriptions of gift cards. `--show` prints what the default score takes out.

    python benchmarks/scrub.py --data ../shared/data [--items <dataset>/items.parquet] [--scores 0.3 0.4 0.5 0.7]
                               [--show]
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import html
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.config.privacy import ScrubConfig
from lorefuse.privacy.scrub import Scrubber

DEFAULT_SCORE = ScrubConfig().min_score


def main() -> None:
    """Print a line a set of texts: the texts in which something was found at each score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of amazon-beauty, amazon-giftcards …")
    parser.add_argument("--items", type=Path, help="items.parquet with a column title, such as MovieLens-100K's")
    parser.add_argument("--scores", type=float, nargs="*", default=[0.3, 0.4, DEFAULT_SCORE, 0.7])
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    scrubbers = {score: Scrubber(ScrubConfig(min_score=score)) for score in args.scores}
    for scrubber in scrubbers.values():
        scrubber.scrub("load the recognizers: a@b.org")
    heads = ["texts", *(f"≥ {score:g}" for score in scrubbers), "µs a text", f"found ≥ {DEFAULT_SCORE:g}"]
    print(f"| | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for name, texts in texts_below(args.data, args.items):
        cells, kinds = [f"{len(texts):,}"], Counter[str]()
        start_s = time.process_time()
        for score, scrubber in scrubbers.items():
            found = [(text, *scrubber.scrub(text)) for text in texts]
            changed = [one for one in found if one[2]]
            cells.append(str(len(changed)))
            if score == DEFAULT_SCORE:
                kinds = sum((counts for *_, counts in changed), Counter[str]())
                for before, after, _ in changed if args.show else []:
                    print(pieces_of(before, after))
        each_us = 1e6 * (time.process_time() - start_s) / len(texts) / len(scrubbers)
        said = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        print(f"| {name} | {' | '.join(cells)} | {each_us:.0f} | {said or 'nothing'} |", flush=True)


def texts_below(data: Path, items: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Yield each set of texts with its name."""
    if items is not None:
        frame = pd.read_parquet(items)
        years = frame.get("release_year", pd.Series("", index=frame.index))
        yield "films of MovieLens-100K", [f"{t} ({y})" for t, y in zip(frame["title"], years, strict=True)]
    yield (
        "titles, Amazon Beauty",
        pd.read_parquet(data / "amazon-beauty" / "items.parquet")["title"].astype(str).tolist(),
    )
    content = json.loads((data / "amazon-phone" / "corpus_512.json").read_text("utf-8")).values()
    yield "texts, Amazon Cell Phones", [html.unescape(one["content"]) for one in content]
    lines = (data / "amazon-scientific-small" / "Scientific.text").read_text("utf-8").splitlines()[1:]
    ids, texts = zip(*(line.split("\t", 1) for line in lines if "\t" in line), strict=True)
    yield "texts, Amazon Scientific", list(texts)
    yield "their ASINs", list(ids)
    gifts = read_gzip(data / "amazon-giftcards" / "meta_Gift_Cards.json.gz")
    yield "titles, gift cards", [html.unescape(str(one.get("title", ""))) for one in gifts]
    yield "descriptions, gift cards", [html.unescape(" ".join(one.get("description") or [])) for one in gifts]
    reviews = read_gzip(data / "amazon-giftcards" / "Gift_Cards_5.json.gz")
    yield "reviews, gift cards", [f"{one.get('summary', '')}. {one.get('reviewText', '')}" for one in reviews]


def read_gzip(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def pieces_of(before: str, after: str) -> list[str]:
    """Return what a text lost."""
    moves = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [before[start:end] for what, start, end, _, _ in moves if what != "equal" and end > start]


if __name__ == "__main__":
    main()
