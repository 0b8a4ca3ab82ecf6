"""The portfolio: a few configurations that won somewhere, in the order in which a data set should try them.

One table serves the race (`auto.choose`), which measures, and `lorefuse advise`, which only points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorefuse.auto.profile import Profile
from lorefuse.config import PipelineConfig, parse_config
from lorefuse.config.models import model_class

TABLES = "docs/experiments.md"
DENSE_ROWS = 20.0
"""Train rows per item from which ids learn by themselves: MovieLens-100K has 47, all the Amazon sets here below 15."""
HALF = 0.5
FEW_ROWS = 20_000
"""Train rows, sampled negatives left out, below which batches of the usual size make too few steps of an epoch."""

FEW_ITEMS = 500
"""Items below which a map from texts to what is taken together has little to be learned from: Gift Cards has 148."""

_WORDS = {"embedding.reducer": "supervised", "embedding.reduce_dim": 64, "embedding.word_dim": 512}
_SPARSE = {"model.id_dropout": 0.3, "model.fusion_text_dim": 32, "features.min_category_count": 2}
_SMALL = {"training.batch_size": 256}


@dataclass(frozen=True)
class Configuration:
    """One of the portfolio.

    Attributes:
        name: Unique.
        about: What it is, in a few words.
        evidence: Where it won, by section of the tables.
        settings: What it sets, by dotted path; all else is as the preset or the defaults say.
        suits: How well a data set suits it: the higher the sooner it is tried, 0: not at all.
        because: Why it suits such data, in words.
        reads_text: Whether it differs from others by what it makes of texts: left out where there are none.
    """

    name: str
    about: str
    evidence: str
    settings: Mapping[str, Any]
    suits: Callable[[Profile], float]
    because: str
    reads_text: bool = False


def is_dense(facts: Profile) -> bool:
    """Tell whether items have rows enough for their ids to learn what texts would say."""
    return facts.rows_per_item >= DENSE_ROWS


def _sparse(weight: float) -> Callable[[Profile], float]:
    return lambda facts: weight if not is_dense(facts) else weight / 10


def _dense(weight: float) -> Callable[[Profile], float]:
    return lambda facts: weight if is_dense(facts) else weight / 10


def _sparse_many(weight: float) -> Callable[[Profile], float]:
    return lambda facts: 0.0 if facts.num_train < FEW_ROWS else _sparse(weight)(facts)


def _dense_many(weight: float) -> Callable[[Profile], float]:
    return lambda facts: 0.0 if facts.num_train < FEW_ROWS else _dense(weight)(facts)


def _few(weight: float) -> Callable[[Profile], float]:
    return lambda facts: weight if facts.num_train < FEW_ROWS else 0.0


def _few_sparse(weight: float) -> Callable[[Profile], float]:
    return lambda facts: _sparse(weight)(facts) * (facts.num_train < FEW_ROWS)


def _few_items(weight: float) -> Callable[[Profile], float]:
    return lambda facts: _few(weight * (1.5 if facts.num_items < FEW_ITEMS else 1.0))(facts)


_FEW_ITEMS = "the catalogue is small and its rows are few: small batches make enough steps, and a map of texts overfits"
_FEW_ROWS = "rows are few: small batches make enough steps"
_READS = "items have few rows and texts: which liked item is nearest by its words says more than ids"

PORTFOLIO: tuple[Configuration, ...] = (
    Configuration(
        "din_words",
        "DIN with matches, supervised reducer, hashed words",
        "sections 9 and 17: Amazon-Beauty, test warm .8080, cold .7770; on an eighth of the users, validation, .7957"
        " where the defaults have .7405",
        {"model.family": "din", **_WORDS, **_SPARSE},
        _sparse(1.0),
        _READS,
        reads_text=True,
    ),
    Configuration(
        "deepfm",
        "DeepFM, PCA of the texts: the defaults",
        "sections 1 and 17: MovieLens-100K, test AUC warm .8063, cold .7709, ahead of every other fusion and family",
        {"model.family": "deepfm", "embedding.reducer": "pca"},
        _dense(1.0),
        "items have many rows: ids know what texts would say, and the simplest model of the portfolio is ahead",
    ),
    Configuration(
        "deepfm_words",
        "DeepFM, supervised reducer, hashed words",
        "sections 8 and 17: Amazon-Beauty, validation .816 / .752 with the supervised reducer, .805 / .716 with PCA",
        {"model.family": "deepfm", **_WORDS, **_SPARSE},
        _sparse(0.9),
        _READS,
        reads_text=True,
    ),
    Configuration(
        "din",
        "DIN with matches, PCA of the texts",
        "sections 5 and 17: MovieLens-100K, within .003 of the best",
        {"model.family": "din", "embedding.reducer": "pca"},
        _dense(0.8),
        "items have many rows, and users have a history to attend to",
    ),
    Configuration(
        "din_wide",
        "DIN with matches, PCA to 128 dimensions",
        "section 8: Amazon-Beauty, validation .830 / .746, and the best logloss there",
        {"model.family": "din", "embedding.reducer": "pca", "embedding.reduce_dim": 128, **_SPARSE,
         "model.fusion_text_dim": 64},
        _sparse_many(0.8),
        _READS,
        reads_text=True,
    ),
    Configuration(
        "dcn_v2",
        "DCN-V2, PCA of the texts",
        "section 5: MovieLens-100K, cold AUC .7718 with alignment, level with DeepFM on warm items",
        {"model.family": "dcn_v2", "embedding.reducer": "pca"},
        _dense_many(0.6),
        "items have many rows, whose fields may cross",
    ),
    Configuration(
        "deepfm_gated",
        "DeepFM, gated fusion",
        "section 5: MovieLens-100K, the best of the other fusions, .8040 / .7696",
        {"model.family": "deepfm", "model.fusion": "gated", "embedding.reducer": "pca"},
        _dense_many(0.7),
        "items have many rows: how texts enter is worth a look",
    ),
    Configuration(
        "linear",
        "logistic regression, PCA of the texts",
        "section 11: MovieLens-100K, within .004 of DeepFM in a hundredth of the time",
        {"model.family": "logistic_regression", "embedding.reducer": "pca"},
        lambda facts: 0.05,
        "a line through good features is hard to beat where all else fails",
    ),
    Configuration(
        "deepfm_small",
        "DeepFM, PCA of the texts, small batches",
        "section 17: Gift Cards, validation .7682 and .8272, where the defaults have .6912 and .7416",
        {"model.family": "deepfm", "embedding.reducer": "pca", **_SMALL},
        _few_items(1.0),
        _FEW_ITEMS,
    ),
    Configuration(
        "din_words_small",
        "DIN with matches, supervised reducer, hashed words, small batches",
        "section 17: Scientific, validation .8128; the defaults fell out at .7592, where it had .8026",
        {"model.family": "din", **_WORDS, **_SPARSE, **_SMALL},
        _few_sparse(1.2),
        _READS,
        reads_text=True,
    ),
    Configuration(
        "deepfm_words_small",
        "DeepFM, supervised reducer, hashed words, small batches",
        "section 17: Scientific, validation .8114, .0014 behind the best, and .8028 the best on a third of the users",
        {"model.family": "deepfm", **_WORDS, **_SPARSE, **_SMALL},
        _few_sparse(1.1),
        _FEW_ROWS,
        reads_text=True,
    ),
    Configuration(
        "din_small",
        "DIN with matches, PCA of the texts, small batches",
        "section 17: Gift Cards, validation .7940, where DIN with large batches has .7793",
        {"model.family": "din", "embedding.reducer": "pca", **_SMALL},
        _few(0.95),
        _FEW_ROWS,
    ),
)  # fmt: skip
"""All configurations. `evidence` names sections of docs/experiments.md; figures are AUC, warm / cold."""


def ordered(facts: Profile) -> list[Configuration]:
    """Return the configurations that a data set can use, best suited first."""
    usable = [one for one in PORTFOLIO if one.suits(facts) > 0 and (not one.reads_text or facts.no_text_share < 1)]
    return sorted(usable, key=lambda one: -one.suits(facts))


def overlay(config: PipelineConfig, settings: Mapping[str, Any], fixed: tuple[str, ...] = ()) -> PipelineConfig:
    """Return a configuration with other settings, ready to run: without the race.

    Another family takes over what it shares with the configured one.

    Args:
        config: What the preset says.
        settings: Values by dotted path.
        fixed: Paths that keep their value.
    """
    content = config.model_dump(mode="json") | {"auto": None}
    for path, value in settings.items():
        section, _, key = path.partition(".")
        if path not in fixed:
            content[section] = {**content[section], key: value}
    model = content["model"]
    known = model_class(model["family"]).model_fields
    content["model"] = {key: value for key, value in model.items() if key in known}
    default_length = known["history_length"].default if "history_length" in known else 0
    if default_length and "history_length" not in content["model"]:
        content["model"]["history_length"] = min(default_length, content["features"]["history_length"])
    return parse_config(content, origin="A configuration of the portfolio")


def entries(config: PipelineConfig, facts: Profile) -> list[tuple[Configuration, PipelineConfig]]:
    """Return what is raced, best suited first: configurations that the preset's own settings make equal stand once."""
    fixed = config.auto.fixed if config.auto is not None else ()
    result: list[tuple[Configuration, PipelineConfig]] = []
    for one in ordered(facts):
        made = overlay(config, one.settings, fixed)
        if all(made != other for _, other in result):
            result.append((one, made))
    return result
