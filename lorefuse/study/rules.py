"""The advisor's rules, in one table: what a dataset is like → what to try first, why, and on what evidence.

Within a topic the first rule that holds speaks, and the last one always holds. Thresholds lie between the data sets
that the evidence comes from; they were not fitted to anything. `TABLES` are our own measurements, in
docs/experiments.md; `PROTOTYPE` are small scripts that preceded the project and stand in no table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lorefuse.study.profile import Profile

TABLES = "docs/experiments.md"
PROTOTYPE = "prototype before this project"
DENSE_ROWS = 20.0
"""Train rows per item from which ids learn by themselves."""
SHORT_WORDS = 8.0
"""Texts below are titles."""
LONG_WORDS = 190.0
"""Texts above do not fit into 256 tokens, at about 1.3 tokens a word."""
HALF = 0.5
MANY_ITEMS = 10_000
NOTICED_SHARE = 0.05
LONG_HISTORY = 5.0


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
        "injection", "text", _always,
        "inject text alone",
        "most items have text, few are linked",
        f"{TABLES} section 1: text_only cold AUC 0.7231 against categories 0.7112, warm 0.7949 against 0.7945;"
        " MovieLens-100K alone",
        {"model.fusion_text_dim": 16, "model.fusion_graph_dim": 0},
    ),
    Rule(
        "fusion", "residual", lambda p: p.num_items < MANY_ITEMS,
        "start with residual, and study it against concat and gated",
        "with few items, knowledge vectors that enter whole become fingerprints of the items",
        f"{PROTOTYPE}, MovieLens-100K warm AUC: residual .796, attention .790, gate .790, concat of whitened text .787,"
        " side features alone .793; docs/decisions/0002-knowledge-design.md",
        {"model.fusion": "residual"},
    ),
    Rule(
        "fusion", "additive", _always,
        "start with residual, and study it against concat, gated and null_space",
        "nothing measured here says which one wins on a large catalogue",
        "literature: concatenation or addition is the safe default; gates collapse without care",
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
        "literature: alignment loses to addition on dense data; not reproduced here",
        {"model.alignment_weight": 0.0},
    ),
    Rule(
        "model", "din", lambda p: p.rows_per_item < DENSE_ROWS and p.rows_per_user >= LONG_HISTORY,
        "study din beside deepfm (--vary model.family=deepfm,din)",
        "items are sparse, and users have a history to attend to",
        f"{PROTOTYPE}, Amazon-Beauty, 3 seeds: warm AUC .798 for DIN on text, .782 for the category control; deepfm"
        " stays the default, whose whole catalogue is scored in one product",
        {"model.family": "deepfm"},
    ),
    Rule(
        "model", "deepfm", _always,
        "start with deepfm",
        "families differ less than seeds and features do, and its whole catalogue is scored in one product",
        "BARS Frappe_x1 AUC: Wide & Deep .9841, DeepFM .9842, DCN-V2 .9845, FinalMLP .9861; another task than yours",
        {"model.family": "deepfm"},
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
    Rule(
        "reducer", "pca", lambda p: p.num_items < MANY_ITEMS,
        "reduce by pca, never by whitening",
        "with few items whitening blows weak directions up to fingerprints",
        f"{PROTOTYPE}: whitened text by concat fell below side features alone (.787 against .793); docs/text.md",
        {"embedding.reducer": "pca"},
    ),
    Rule(
        "reducer", "default", _always,
        "reduce by pca, and study whitening and supervised",
        "with many items weak directions may carry meaning",
        "docs/text.md; not measured here on a large catalogue",
        {"embedding.reducer": "pca"},
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
