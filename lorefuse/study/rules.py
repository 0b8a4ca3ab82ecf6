"""The advisor's rules, in one table: what a dataset is like → what to try first, why, and on what evidence.

Within a topic the first rule that holds speaks, and the last one always holds. Thresholds lie between the data sets
that the evidence comes from; they were not fitted to anything. `TABLES` are our own measurements, in
docs/experiments.md. Model, reducer and batches are not decided here: `auto.portfolio` is the table that `lorefuse run`
races, and the advice is the configuration that it would try first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lorefuse.auto.portfolio import DENSE_ROWS, TABLES
from lorefuse.auto.profile import Profile

SHORT_WORDS = 8.0
"""Texts below are titles."""
LONG_WORDS = 190.0
"""Texts above do not fit into 256 tokens, at about 1.3 tokens a word."""
HALF = 0.5
NOTICED_SHARE = 0.05


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        topic: What it decides.
        name: Unique.
        holds: When it speaks.
        advice: What to do.
        because: The reasoning.
        evidence: What it stands on, by name, and how far that carries.
        settings: Settings to start from, by dotted path.
    """

    topic: str
    name: str
    holds: Callable[[Profile], bool]
    advice: str
    because: str
    evidence: str
    settings: dict[str, Any] = field(default_factory=dict)


def _always(profile: Profile) -> bool:
    return True


RULES: tuple[Rule, ...] = (
    Rule(
        "expectation", "new_users", lambda p: p.new_user_share >= HALF,
        "expect gains on cold items alone, and read the warm verdict before serving",
        "most test rows belong to users without train rows, whose interests nobody knows",
        f"{TABLES} section 1, global_time: warm AUC +0.0047 [-0.0051, +0.0126] (no evidence), cold +0.0467"
        " [+0.0244, +0.0699]; one data set",
    ),
    Rule(
        "expectation", "cold", lambda p: p.cold_share >= NOTICED_SHARE,
        "expect the largest gain on cold items, and read that bucket first",
        "an item without train rows has nothing but what is known about it",
        f"{TABLES} section 1, per_user_time: cold AUC +0.0658 [+0.0441, +0.0875], warm +0.0135 [+0.0088, +0.0186];"
        " one data set",
    ),
    Rule(
        "expectation", "dense", lambda p: p.rows_per_item >= DENSE_ROWS,
        "expect a small gain, and run all seeds before believing it",
        "items have rows enough for their ids to learn what text would say",
        "literature (LLM-MovieLens, AlphaFuse): about 3 % NDCG on dense catalogues; not reproduced here",
    ),
    Rule(
        "expectation", "sparse", _always,
        "expect gains on tail items",
        "items have few train rows",
        "literature (LLM-MovieLens, AlphaFuse): tail and cold items gain by factors; not reproduced here",
    ),
    Rule(
        "injection", "graph", lambda p: p.linked_share >= HALF,
        "inject text and graph together",
        "at least half of the items are linked to the graph",
        f"{TABLES} section 1: graph_only has most of the gain (warm AUC 0.8052 of real's 0.8063, none 0.7923);"
        " MovieLens-100K and Freebase alone",
        {"model.fusion_text_dim": 16, "model.fusion_graph_dim": 32},
    ),
    Rule(
        "injection", "little_text", lambda p: p.no_text_share >= HALF,
        "bring more text or links first; the model alone has little to inject",
        "at least half of the items have no text, and few are linked",
        "none of our own: an item without text gets a vector of zeros",
    ),
    Rule(
        "injection", "sparse_text", lambda p: p.rows_per_item < DENSE_ROWS,
        "inject text, and let the texts be mapped to what is taken together",
        "most items have text, few are linked, and ids have few rows to learn from",
        f"{TABLES} section 9, Amazon-Beauty: warm AUC .8080 with text, .7602 with categories, .7479 with other items'"
        " text; cold .7770, .6561, .6202",
    ),
    Rule(
        "injection", "text", _always,
        "inject text, and expect it to tell new items apart more than known ones",
        "most items have text, few are linked, and ids have rows enough",
        f"{TABLES} section 1: text_only cold AUC 0.7231 against categories 0.7112, warm 0.7949 against 0.7945;"
        " MovieLens-100K alone",
    ),
    Rule(
        "fusion", "residual", _always,
        "keep residual, and study it against gated and null_space",
        "what is known matters more than how it enters",
        f"{TABLES} sections 1 and 5, MovieLens-100K, DeepFM: residual warm AUC 0.8063, gated 0.8040, concat 0.8034,"
        " attention 0.8018; no other data set was measured",
        {"model.fusion": "residual"},
    ),
    Rule(
        "alignment", "sparse", lambda p: p.rows_per_item < DENSE_ROWS,
        "study an alignment loss (--vary model.alignment_weight=0.0,0.1)",
        "items have few train rows, which is where it is said to win",
        "literature (RLMRec, arXiv:2310.15950, and later): +17 % to +29 % over addition on sparse data; not reproduced"
        " here",
    ),
    Rule(
        "alignment", "dense", _always,
        "leave the alignment loss out",
        "items have many train rows",
        f"{TABLES} section 5, MovieLens-100K: warm AUC 0.8031 with it (DeepFM, weight .05), 0.8063 without (section 1)",
        {"model.alignment_weight": 0.0},
    ),
    Rule(
        "encoder", "titles", lambda p: 0 < p.num_words < SHORT_WORDS,
        "keep minilm, and add text (`enrich`) or a graph before a larger encoder",
        "texts are as short as titles",
        f"{TABLES} section 1: titles, genres and years through minilm equal the categories control on warm items; no"
        " larger encoder was tried on them",
        {"embedding.encoder": "minilm"},
    ),
    Rule(
        "encoder", "long", lambda p: p.num_words > LONG_WORDS,
        "split the text into facets, or take an encoder that reads more and raise embedding.max_tokens",
        "the mean text does not fit into embedding.max_tokens of 256, and what is cut is not read",
        "arithmetic: about 1.3 tokens a word in English; whether the rest matters was not measured",
    ),
    Rule(
        "encoder", "default", _always,
        "start with minilm, the bundled encoder",
        "texts fit into its window; study a larger one once knowledge is seen to help",
        "none of our own on which encoder is better",
        {"embedding.encoder": "minilm"},
    ),
)  # fmt: skip
"""All rules, in the order in which they are asked."""


def matching(profile: Profile) -> list[Rule]:
    """Return the first rule that holds of each topic, in order of topics."""
    found: dict[str, Rule] = {}
    for rule in RULES:
        if rule.topic not in found and rule.holds(profile):
            found[rule.topic] = rule
    return list(found.values())
