"""Amazon Beauty as papers report it: leave-one-out, full ranking of all items, nothing held out.

Beside single recommenders stands what Lorefuse would serve without a ranker: the learned blend of EASE, ItemKNN, texts
and SASRec (`lists`), whose weights are learned on validation users. Its column of validation is of users that a fit
did not see.

A user's last like is the test part, the one before it validation; both count in the history when the test part is
ranked, and what a user had is left out. What is published for this protocol stands below the table, and RecTools'
SASRec is trained in the same run on the same rows, in an environment of its own.

    python benchmarks/public_tables.py [--data ../shared/data/amazon-beauty] [--num-seeds 2] [--num-threads 1]
                                       [--only NAME ...] [--quick]

Settings are chosen by the column of validation; test is read once a row. The control of a text gain is the category
path, which the text repeats: the same model over categories as vectors of ones and zeros.

`--data` may also be a folder of UniSRec's format (Amazon Scientific, small: minutes in place of hours).

With `--movielens` the same rows on MovieLens-100K, as `pipelines/configs/movielens_100k.yaml` splits it: by time within
each user, 12 % of the items held out; figures are of items with a train row. It has 943 users: 32 a step, not 256.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from peers.environment import FOLDER, PeerUnavailableError, peer_python
from peers.process import Process
from retrieval import Vectors, categories_of
from scipy.sparse import csr_array

from lorefuse.config import EmbeddingConfig, RetrievalConfig, load_config
from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.embedding.embed import embed_texts
from lorefuse.lists.encoders import served_sasrec
from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
from lorefuse.lists.judge import make_lists
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments, moments_of
from lorefuse.lists.order import NUM_WEIGHED_USERS, look, put_in_order
from lorefuse.lists.readers import with_encoded
from lorefuse.lists.stage_files import Fitted as Stages
from lorefuse.lists.tables import collaborative_tables
from lorefuse.retrieval.build import build_recommender
from lorefuse.retrieval.data import RetrievalData, from_rows, from_training_set
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.hybrid import Hybrid
from lorefuse.retrieval.metrics import user_metrics
from lorefuse.retrieval.recommender import Recommender, Rows, Side, recommend
from lorefuse.retrieval.sasrec import SASRec, latest

PUBLISHED = """SASRec .0423 (cornac, tuned) .0416 (RecBole with CE) .0405 (LETTER's reruns)
TIGER .0384 (paper) .0353 (cornac) .0298 to .0311 (reruns)
RPG .0464 (paper) .0454 (cornac)"""
"""NDCG@10; the sources are in ../shared/data/SOURCES.md."""
SHARED_SIZES = {"dropout": 0.3, "history_length": 50, "num_layers": 2, "num_heads": 2, "embedding_dim": 64}
RECENCY_HALF_LIFE = 2.0
CANDIDATES = CandidatesConfig(new_item_cost=0.0)
"""As served, but nothing is given up for new items: nothing is held out."""
NUM_RANKED, NUM_HELD_OUT = 20, 4000
"""Ranks of a blend's list; validation users that a blend is judged by, beside those that it is learned from."""


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: Of the recommender.
        update: Fields of its section that differ, for the trained ones.
        text: Item vectors it reads: ``title``, ``category`` or none.
        trained: Whether each seed gives another one.
        members: Of a hybrid or a blend, rows above it.
    """

    name: str
    update: dict[str, object] | None = None
    text: str = "none"
    trained: bool = False
    members: tuple[str, ...] = ()


def sasrec(mode: str, text: str = "none", **update: object) -> Case:
    """Return a row of SASRec."""
    return Case("sasrec", {"item_mode": mode, **update}, text, trained=True)


CASES: dict[str, Case] = {
    "popularity": Case("popularity"),
    "item_knn": Case("item_knn"),
    "ease": Case("ease"),
    "content": Case("content", text="title"),
    "two_tower": Case("two_tower", text="title", trained=True),
    "sasrec, ids": sasrec("ids"),
    "sasrec, ids, bce": sasrec("ids", loss="bce"),
    "sasrec, ids from text": sasrec("text_init", "title"),
    "sasrec, ids from categories": sasrec("text_init", "category"),
    "sasrec, ids + text": sasrec("fused", "title"),
    "sasrec, ids + text, sampled": sasrec("fused", "title", loss="sampled_ce"),
    "sasrec, ids + categories": sasrec("fused", "category"),
    "hybrid: ease, content": Case("hybrid", members=("ease", "content")),
    "hybrid: sasrec ids, ease": Case("hybrid", trained=True, members=("sasrec, ids", "ease")),
    "hybrid: sasrec ids + text, ease": Case("hybrid", trained=True, members=("sasrec, ids + text", "ease")),
    "hybrid: sasrec ids + text, ease, content": Case(
        "hybrid", trained=True, members=("sasrec, ids + text", "ease", "content")
    ),
    "blend: ease, item_knn, content": Case("blend", text="title"),
    "blend: the same, sasrec ids from text": Case("blend", None, "title", True, ("sasrec, ids from text",)),
    "blend: the same, sasrec ids + text": Case("blend", None, "title", True, ("sasrec, ids + text",)),
}
RECTOOLS = "rectools, sasrec"


@dataclass(frozen=True, eq=False)
class Task:
    """What is ranked.

    Attributes:
        data: Split part and name of the item vectors → data.
        moments: Split part and most items of a past → users at the beginning of that part.
        taken: What users took in train, liked or not.
        positions: user, item, position and part (0 train, 1 validation, 2 test) for the peer; null: not for peers.
    """

    data: Callable[[Split, str], RetrievalData]
    moments: Callable[[Split, int], Moments]
    taken: csr_array
    positions: dict[str, NDArray[np.integer]] | None = None


class Fitted(Recommender):
    """A recommender that is fitted already: hybrids join it as it is."""

    def __init__(self, member: Recommender) -> None:
        self.member = member

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        """Leave it as it is."""

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        return self.member.scores(user_rows, history_UN)


def main() -> None:
    """Print the table."""
    args = arguments()
    if not args.movielens and not is_public(args.data):
        print(f"public_tables: SKIPPED, {args.data} holds no interactions.parquet (set LOREFUSE_SHARED_DATA)")
        sys.exit(0)
    task = movielens() if args.movielens else leave_one_out(args.data, args.num_threads)
    epochs = {"max_epochs": 2} if args.quick else {}
    threads = {"num_threads": args.num_threads, **epochs}
    steps = {"batch_size": 32} if args.movielens else {}
    config = RetrievalConfig(two_tower=threads, light_gcn=threads, sasrec={**threads, **SHARED_SIZES, **steps})
    print("row | NDCG@10 | Recall@10 | Recall@20 | NDCG@10 of each seed | validation NDCG@10 | epochs | s", flush=True)
    fitted: dict[tuple[str, int], Recommender] = {}
    for name in (name for name in CASES if name in args.only):
        if missing := [part for part in CASES[name].members if (part, 0) not in fitted]:
            print(f"{name}: SKIPPED, without {', '.join(missing)}")
            continue
        seeds = range(1 if args.quick or not CASES[name].trained else args.num_seeds)
        show(name, [judge(name, seed, config, task, fitted) for seed in seeds])
    if RECTOOLS in args.only and task.positions is not None:
        seeds = range(1 if args.quick else args.num_seeds)
        show(RECTOOLS, list(rectools(task, config, seeds, args.num_threads)))
    if not args.movielens and args.data.name == "amazon-beauty":
        print(f"\npublished for this protocol, NDCG@10:\n{PUBLISHED}")


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shared = Path(os.environ.get("LOREFUSE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    names = [*CASES, RECTOOLS]
    parser.add_argument("--data", type=Path, default=shared / "amazon-beauty")
    parser.add_argument("--movielens", action="store_true", help="MovieLens-100K in place of Amazon Beauty")
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="two epochs and one seed: does it run?")
    return parser.parse_args()


@dataclass(frozen=True)
class Result:
    """What one fit gave: means over the users of the test part, and what was seen on validation."""

    ndcg: float
    recall_at_10: float
    recall_at_20: float
    validation: float
    epochs: int
    elapsed_s: float


def judge(
    name: str, seed: int, config: RetrievalConfig, task: Task, fitted: dict[tuple[str, int], Recommender]
) -> Result:
    """Fit a row's recommender, which is kept for hybrids further down, and rank the test part."""
    start_s, text = time.perf_counter(), CASES[name].text
    if CASES[name].name == "blend":
        members = [fitted[part, seed] for part in CASES[name].members]
        ranked_UK, on_validation = blend([model for model in members if isinstance(model, SASRec)], task, seed)
        relevant_UN = relevant_of(task.data(Split.TEST, "none"), task)
        users = np.flatnonzero(np.diff(relevant_UN.indptr))
        return result_of(ranked_UK, relevant_UN[users], on_validation, 0, time.perf_counter() - start_s)
    data, validation = task.data(Split.TEST, text), task.data(Split.VALIDATION, text)
    model = fitted[name, seed] = make(name, seed, config, fitted)
    model.fit(data.train, data.side, ndcg_of(validation, 10))
    relevant_UN = relevant_of(data, task)
    users = np.flatnonzero(np.diff(relevant_UN.indptr))
    ranked_UK = recommend(model, users, 20, seen_UN=data.seen, history_UN=data.history)
    on_validation = ndcg_of(validation, 10, max_users=data.train.shape[0])(model)
    elapsed_s, epochs = time.perf_counter() - start_s, len(getattr(model, "epochs", ()))
    return result_of(ranked_UK, relevant_UN[users], on_validation, epochs, elapsed_s)


def relevant_of(data: RetrievalData, task: Task) -> csr_array:
    """Return what is to be found: everything, or where items were held out the known ones."""
    return csr_array(data.warm + data.cold) if task.positions is not None else data.warm


def blend(sequences: list[SASRec], task: Task, seed: int) -> tuple[NDArray[np.int64], float]:
    """Learn the candidate stage that would be served, and return its lists of test users and its validation NDCG.

    Args:
        sequences: Trained SASRecs, each a view of the blend beside the tables.
        task: What is ranked.
        seed: Of the draws.
    """
    section = CANDIDATES
    views = {f"sasrec_{number}": served_sasrec(model) for number, model in enumerate(sequences)}
    validation, test = (
        with_encoded(task.moments(part, section.history_length), views) for part in (Split.VALIDATION, Split.TEST)
    )
    start = unfitted(tables_of(task), task.taken, section, NUM_RANKED, "binary", views)
    num_fit = min(section.num_fit_users, len(validation) // 2)
    chosen = np.linspace(0, len(validation) - 1, num_fit).round().astype(np.int64)
    others = validation.chosen(np.setdiff1d(np.arange(len(validation)), chosen)).thinned(NUM_HELD_OUT)
    stages = _fitted(start, validation.chosen(chosen), seed)
    shown = make_lists(stages.two_stage(), others, None, 10, "validation")
    on_validation = float(user_metrics(shown, others.all, 10)["ndcg"].mean())
    if num_fit < section.num_fit_users:
        stages = _fitted(start, validation.thinned(section.num_fit_users), seed)
    return make_lists(stages.two_stage(), judged_users(test, task), None, NUM_RANKED, "test"), on_validation


def _fitted(start: Stages, validation: Moments, seed: int) -> Stages:
    blended, weighed = fit(start, validation, CANDIDATES, seed), validation.thinned(NUM_WEIGHED_USERS)
    return put_in_order(blended, look(blended, weighed), weighed, None, CANDIDATES)


@cache
def tables_of(task: Task) -> dict[str, csr_array]:
    """Return the tables of a blend, which no seed changes."""
    side = task.data(Split.TEST, "title").side
    blocks = side.knowledge
    knowledge = ItemKnowledge.of(task.taken, blocks, CANDIDATES)
    return make_tables(collaborative_tables(task.taken, CANDIDATES), knowledge, CANDIDATES)


def judged_users(test: Moments, task: Task) -> Moments:
    """Return the users with something to be found, as `relevant_of` counts it."""
    return test if task.positions is not None else test.chosen(np.flatnonzero(np.diff(test.warm.indptr)))


def make(name: str, seed: int, config: RetrievalConfig, fitted: dict[tuple[str, int], Recommender]) -> Recommender:
    """Return a row's recommender; a hybrid joins what is fitted."""
    case = CASES[name]
    if case.members:
        members = [fitted.get((part, seed)) or fitted[part, 0] for part in case.members]
        return Hybrid([(Fitted(member), 1.0) for member in members], grid=config.hybrid_grid)
    if case.update:
        section = getattr(config, case.name).model_copy(update=case.update)
        config = config.model_copy(update={case.name: section})
    return build_recommender(case.name, config, seed)  # type: ignore[arg-type]


def result_of(
    ranked_UK: NDArray[np.int64], relevant_UN: csr_array, validation: float, epochs: int, elapsed_s: float
) -> Result:
    """Return the means over users of a ranking."""
    at_10, at_20 = (user_metrics(ranked_UK, relevant_UN, k) for k in (10, 20))
    ndcg, recall_at_10, recall_at_20 = (
        float(values.mean()) for values in (at_10["ndcg"], at_10["recall"], at_20["recall"])
    )
    return Result(ndcg, recall_at_10, recall_at_20, validation, epochs, elapsed_s)


def show(name: str, results: list[Result]) -> None:
    """Print a row of the table: means over seeds."""
    if not results:
        return
    means = [np.mean([getattr(result, key) for result in results]) for key in ("ndcg", "recall_at_10", "recall_at_20")]
    seeds = " ".join(f"{result.ndcg:.4f}" for result in results)
    validation = " ".join(f"{result.validation:.4f}" for result in results)
    epochs = " ".join(str(result.epochs) for result in results)
    cells = [f"{mean:.4f}" for mean in means]
    print(" | ".join([name, *cells, seeds, validation, epochs, f"{sum(r.elapsed_s for r in results):.0f}"]), flush=True)


def rectools(task: Task, config: RetrievalConfig, seeds: range, num_threads: int) -> Iterator[Result]:
    """Train RecTools' SASRec with the same sizes, steps and stopping rule."""
    try:
        python_path = peer_python("rectools")
    except PeerUnavailableError as error:
        print(f"{RECTOOLS}: SKIPPED, {error}")
        return
    data, ours = task.data(Split.TEST, "none"), config.sasrec
    relevant_UN = csr_array(data.warm + data.cold)
    users = np.unique(task.positions["user"]) if task.positions is not None else np.zeros(0, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        rows_path, out_path = Path(folder) / "rows.npz", Path(folder) / "ranked.npy"
        np.savez(rows_path, **task.positions or {})  # type: ignore[arg-type]
        environment = {**os.environ, "PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": str(num_threads)}
        process = Process(RECTOOLS, [str(python_path), str(FOLDER / "rectools_runner.py")], environment)
        for seed in seeds:
            answer = process.ask(
                rows=str(rows_path), out=str(out_path), seed=seed, max_epochs=ours.max_epochs, patience=ours.patience,
                num_threads=num_threads, batch_size=ours.batch_size, lr=ours.learning_rate,
                n_factors=ours.embedding_dim, n_heads=ours.num_heads, n_blocks=ours.num_layers,
                dropout_rate=ours.dropout, session_max_len=ours.history_length,
            )  # fmt: skip
            ranked_UK = np.load(out_path, allow_pickle=False)
            yield result_of(ranked_UK, relevant_UN[users], answer["validation"], answer["epochs"], answer["elapsed_s"])
        process.close()


def is_public(path: Path) -> bool:
    """Return whether a folder holds data that `leave_one_out` reads."""
    return (path / "interactions.parquet").is_file() or any(path.glob("*.item2index"))


def read_public(path: Path) -> tuple[pd.DataFrame, list[str], Vectors | None]:
    """Return rows (user, item, position; the codes of users and items count from 0), texts and categories of items.

    Args:
        path: Folder of `interactions.parquet` (user_id, item_id, position) and `items.parquet` (item_id, title,
            categories), or of UniSRec's files, whose texts hold title, categories and brand.
    """
    if (path / "interactions.parquet").is_file():
        rows, items = (pd.read_parquet(path / f"{name}.parquet") for name in ("interactions", "items"))
        user = pd.factorize(rows["user_id"], sort=True)[0]
        item = pd.Index(items["item_id"]).get_indexer(rows["item_id"])
        frame = pd.DataFrame({"user": user, "item": item, "position": rows["position"]})
        return frame, items["title"].fillna("").tolist(), categories_of(items["categories"])
    name = next(path.glob("*.item2index")).stem
    test = pd.read_csv(path / f"{name}.test.inter", sep="\t", dtype=str)
    past = test["item_id_list:token_seq"].str.split(" ") + test["item_id:token"].map(lambda item: [item])
    taken = [[int(item) for item in items] for items in past]
    frame = pd.DataFrame({
        "user": np.repeat(np.arange(len(taken)), [len(items) for items in taken]),
        "item": np.concatenate(taken),
        "position": np.concatenate([np.arange(len(items)) for items in taken]),
    })  # fmt: skip
    ids = pd.read_csv(path / f"{name}.item2index", sep="\t", header=None, names=["id", "row"]).sort_values("row")["id"]
    texts = pd.read_csv(path / f"{name}.text", sep="\t", quoting=3).set_index("item_id:token")["text:token_seq"]
    return frame, texts.reindex(ids).fillna("").tolist(), None


def leave_one_out(path: Path, num_threads: int) -> Task:
    """Return a public data set, split as papers do.

    Args:
        path: See `read_public`.
        num_threads: For the encoder.
    """
    rows, texts, categories = read_public(path)
    user, item, position = (rows[name].to_numpy() for name in ("user", "item", "position"))
    num_later = rows.groupby("user")["position"].transform("max").to_numpy() - position
    part = np.array([2, 1, 0])[np.minimum(num_later, 2)]
    codes = np.array([SPLIT_CODES[name] for name in (Split.TRAIN, Split.VALIDATION, Split.TEST)])
    vectors: dict[str, Vectors] = {"title": embed_texts(texts, EmbeddingConfig(num_threads=num_threads))[0]}
    if categories is not None:
        vectors["category"] = categories

    def data(judged: Split, text: str) -> RetrievalData:
        return from_rows(
            user,
            item,
            position,
            np.ones(len(user), dtype=bool),
            codes[part],
            num_users=int(user.max()) + 1,
            num_items=len(texts),
            judged=judged,
            recency_half_life=RECENCY_HALF_LIFE,
            side=Side(knowledge={"text": vectors.get(text)}),
        )

    def moments(judged: Split, length: int) -> Moments:
        found = data(judged, "none")
        users = np.flatnonzero(np.diff(found.warm.indptr) + np.diff(found.cold.indptr))
        past = [rows[rows > 0][::-1] - 1 for rows in latest(found.history[users], length)]
        hidden = np.split(found.seen.indices.astype(np.int64), found.seen.indptr[1:-1])
        return Moments(
            users=users,
            liked=past,
            seen=past,
            hidden=[hidden[number] for number in users],
            warm=found.warm[users],
            cold=found.cold[users],
            fields=np.zeros((len(users), 1), np.int64),
            states=np.zeros(len(users), np.int64),  # features are the ranker's, and there is none
            data=found,
        )

    positions = {"user": user, "item": item, "position": position, "part": part}
    return Task(data, moments, data(Split.TEST, "none").train, positions)


def movielens() -> Task:
    """Return MovieLens-100K as its preset splits it; it has no categories apart, so those rows read nothing."""
    from lorefuse.steps import prepare
    from lorefuse.training_set.arrays import TrainingSet

    preset_path = Path(__file__).parents[1] / "pipelines" / "configs" / "movielens_100k.yaml"
    training_set = TrainingSet.load(prepare(load_config(preset_path))["training_set"])

    def data(judged: Split, text: str) -> RetrievalData:
        found = from_training_set(training_set, judged=judged, recency_half_life=RECENCY_HALF_LIFE)
        side = found.side if text == "title" else replace(found.side, knowledge={})
        return replace(found, side=side)

    def moments(judged: Split, length: int) -> Moments:
        return moments_of(training_set, judged, length)

    return Task(data, moments, taken_in_train(training_set))


if __name__ == "__main__":
    main()
