"""Advice by rule: each threshold from both sides, and nothing cited that is not there."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.auto.profile import Profile, profile
from lorefuse.config import NegativesConfig, parse_config
from lorefuse.core.schema import ITEM_ID, SPLIT, USER_ID, Split
from lorefuse.data.split import load_split
from lorefuse.study.advise import FIRST, advise, as_text, of_profile
from lorefuse.study.rules import RULES, TABLES, matching
from tests.helpers.feature_world import make_world

ROOT = Path(__file__).parents[3]
BASE = Profile(
    num_items=1000, num_users=500, num_train=8000, num_test=1000, rows_per_item=8.0, rows_per_user=4.0,
    num_words=30.0, no_text_share=0.0, cold_share=0.0, new_user_share=0.0, linked_share=0.0, num_links=0,
)  # fmt: skip
TOPICS = list(dict.fromkeys(rule.topic for rule in RULES))


def _chosen(**changes: float) -> dict[str, str]:
    return {rule.topic: rule.name for rule in matching(dataclasses.replace(BASE, **changes))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "changes", "rule"),
    [
        ("expectation", {"new_user_share": 0.5, "cold_share": 0.9}, "new_users"),
        ("expectation", {"new_user_share": 0.499, "cold_share": 0.05}, "cold"),
        ("expectation", {"cold_share": 0.049, "rows_per_item": 20.0}, "dense"),
        ("expectation", {"rows_per_item": 19.9}, "sparse"),
        ("injection", {"linked_share": 0.5, "no_text_share": 1.0}, "graph"),
        ("injection", {"linked_share": 0.499, "no_text_share": 0.5}, "little_text"),
        ("injection", {"linked_share": 0.499, "no_text_share": 0.499, "rows_per_item": 19.9}, "sparse_text"),
        ("injection", {"linked_share": 0.499, "no_text_share": 0.499, "rows_per_item": 20.0}, "text"),
        ("fusion", {}, "residual"),
        ("alignment", {"rows_per_item": 19.9}, "sparse"),
        ("alignment", {"rows_per_item": 20.0}, "dense"),
        ("encoder", {"num_words": 7.9}, "titles"),
        ("encoder", {"num_words": 8.0}, "default"),
        ("encoder", {"num_words": 190.0}, "default"),
        ("encoder", {"num_words": 190.1}, "long"),
        ("encoder", {"num_words": 0.0, "no_text_share": 1.0}, "default"),
    ],
)
def test_thresholds(topic: str, changes: dict[str, float], rule: str) -> None:
    assert _chosen(**changes)[topic] == rule


SHARE = st.floats(0, 1)


@given(st.integers(1, 10**6), st.floats(1, 1e4), st.floats(1, 1e4), st.floats(0, 1e4), SHARE, SHARE, SHARE, SHARE)
def test_every_topic_has_one_piece_of_advice_whose_settings_parse(
    items: int, per_item: float, per_user: float, words: float, bare: float, cold: float, new: float, linked: float
) -> None:
    facts = Profile(items, 9, 9, 9, per_item, per_user, words, bare, cold, new, linked, 0)
    content = of_profile(facts)
    assert [entry["topic"] for entry in content["advice"]] == [FIRST, *TOPICS]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    sections: dict[str, dict[str, object]] = {}
    for path, value in content["settings"].items():
        section, _, name = path.partition(".")
        sections.setdefault(section, {})[name] = value
    parse_config(sections)


def test_sparse_data_with_texts_is_told_what_won_on_such_data() -> None:
    """The bar of a held-out data set: DIN, supervised reducer and hashed words are named, and would be raced first."""
    settings = of_profile(dataclasses.replace(BASE, num_items=12_000, num_train=140_000))["settings"]
    assert (settings["model.family"], settings["embedding.reducer"]) == ("din", "supervised")
    assert settings["embedding.word_dim"] == 512
    small = of_profile(BASE)["settings"]
    assert (small["model.family"], small["embedding.word_dim"]) == ("din", 512)
    dense = of_profile(dataclasses.replace(BASE, rows_per_item=47.0, num_train=70_000))
    assert (dense["settings"]["model.family"], dense["settings"]["embedding.reducer"]) == ("deepfm", "pca")
    assert dense["advice"][0]["evidence"].startswith(TABLES)


def test_figures_cited_from_the_tables_stand_there() -> None:
    tables = (ROOT / TABLES).read_text("utf-8")
    cited = [rule for rule in RULES if rule.evidence.startswith(TABLES)]
    assert cited
    for rule in cited:
        for figure in re.findall(r"[+-]?\d\.\d{4}", rule.evidence):
            assert figure in tables, f"{rule.name} cites {figure}"
    for rule in RULES:
        assert all((rule.advice, rule.because, rule.evidence))
        for page in re.findall(r"docs/[\w/.-]+\.md", rule.evidence):
            assert (ROOT / page).is_file(), page


def test_a_profile_counts_what_the_tables_hold(tmp_path: Path) -> None:
    world = make_world(tmp_path, negatives=NegativesConfig(num_train=1, num_eval=2))
    facts = profile(world.dataset, world.split_path)
    rows, part = world.dataset.interactions(), load_split(world.split_path)[0]
    known = {name: rows[(part[SPLIT] == name).to_numpy()] for name in (Split.TRAIN, Split.TEST)}
    train, test = known[Split.TRAIN], known[Split.TEST]
    assert (facts.num_train, facts.num_test) == (len(train), len(test))
    assert facts.rows_per_item == len(train) / len(set(train[ITEM_ID]))
    assert facts.rows_per_user == len(train) / len(set(train[USER_ID]))
    cold = [item not in set(train[ITEM_ID]) for item in test[ITEM_ID]]
    new = [user not in set(train[USER_ID]) for user in test[USER_ID]]
    assert facts.cold_share == pytest.approx(sum(cold) / len(cold))
    assert facts.new_user_share == pytest.approx(sum(new) / len(new))
    items = world.dataset.items()
    assert facts.num_items == len(items)
    links = world.dataset.links()
    expected = 0.0 if links is None else items[ITEM_ID].isin(links[ITEM_ID]).mean()
    assert facts.linked_share == pytest.approx(expected)


def test_words_are_counted_over_items_that_have_text() -> None:
    """Two items of three have text, of 2 and 4 words; one of three is linked."""

    class Tiny:
        roles = type("Roles", (), {"item_text": ("title", "genres")})

        def items(self) -> pd.DataFrame:
            return pd.DataFrame(
                {"item_id": ["a", "b", "c"], "title": ["One", "Three words here", None], "genres": [["x"], ["y"], []]}
            )

        def users(self) -> pd.DataFrame:
            return pd.DataFrame({"user_id": ["u", "v"]})

        def links(self) -> pd.DataFrame:
            return pd.DataFrame({"item_id": ["a", "gone"], "entity_id": ["e", "f"]})

        def interactions(self) -> pd.DataFrame:
            return pd.DataFrame({"row_id": [0, 1, 2], "user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"]})

    import lorefuse.data.split as splits

    frame = pd.DataFrame({"row_id": [0, 1, 2], "split": ["train", "test", "test"], "cold": [False, True, False]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "load_split", lambda path: (frame, {}))
        facts = profile(Tiny(), Path("split"))  # type: ignore[arg-type]
    assert facts == Profile(3, 2, 1, 2, 1.0, 1.0, 3.0, 1 / 3, 0.5, 0.5, 1 / 3, 2)


def test_the_text_says_rule_reason_and_evidence(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    content = advise(world.dataset, world.split_path)
    text = as_text(content)
    for entry in content["advice"]:
        assert f"{entry['topic']}: {entry['advice']}" in text
        assert f"because: {entry['because'][:40]}" in text
    assert text.endswith(content["caveat"])
