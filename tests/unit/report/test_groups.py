from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lorefuse.core.atomic import write_json
from lorefuse.report.build import build_report
from lorefuse.report.groups import exposure_figure, group_section, group_sentences, item_rows, user_figure
from tests.helpers import artifacts
from tests.unit.report.test_lists import lists_content


def _entry(mean: float | None, width: float | None = 0.01) -> dict[str, float | None]:
    known = mean is not None and width is not None
    return {"mean": mean, "low": mean - width if known else None, "high": mean + width if known else None}


def grouped_content() -> dict[str, Any]:
    """`lists.json` with groups: the served list shows more of the head than users had liked."""
    shares = {"served": (0.5, 0.4, 0.06, 0.04), "popularity": (0.9, 0.1, 0.0, 0.0)}
    liked = (0.3, 0.5, 0.2, 0.0)
    groups = ("head", "torso", "tail", "new")
    items = {
        name: {
            group: {"exposure": _entry(shown), "consumption": _entry(had), "difference": _entry(shown - had)}
            for group, shown, had in zip(groups, of_list, liked, strict=True)
        }
        for name, of_list in shares.items()
    }
    parts = {f"{kind}_{group}": _entry(0.25) for kind in ("exposure", "consumption") for group in groups}

    def row(name: str, ndcg: float | None, gap: float | None) -> dict[str, Any]:
        quality = {"ndcg": _entry(ndcg), "recall": _entry(ndcg), "ndcg_minus_rest": _entry(gap)}
        return {"name": name, "num_users": 40, **quality, "recall_minus_rest": _entry(gap, None), **parts}

    users = {"gender": [row("F", 0.12, -0.06), row("<b>M", 0.18, 0.06)], "activity": [row("least active", None, None)]}
    num_items = dict(zip(groups, (10, 80, 400, 20), strict=True))
    return {**lists_content(), "groups": {"num_items": num_items, "items": items, "users": users}}


def test_a_file_without_groups_has_no_section() -> None:
    assert group_section(lists_content()) is None


def test_tables_say_by_how_much_a_group_differs_from_all_others() -> None:
    section = group_section(grouped_content())
    assert section is not None
    first, second = section["columns"][0]["rows"]
    assert first["ndcg"] == {"text": "0.1200", "title": "95 % interval [0.1100, 0.1300]"}
    assert first["ndcg_chip"] == {"text": "-0.0600 [-0.0700, -0.0500]", "tone": "bad"}
    assert (second["ndcg_chip"]["tone"], second["recall_chip"]) == ("good", {"text": "+0.0600", "tone": "neutral"})
    assert section["columns"][1]["rows"][0]["ndcg"]["text"] == "–"
    rows = item_rows(grouped_content())
    assert [row["name"] for row in rows] == ["had liked", "served", "popularity"]
    assert [cell["text"] for cell in rows[1]["cells"]] == ["50.0%", "40.0%", "6.0%", "4.0%"]
    assert rows[1]["chips"][0] == "+0.2000 [+0.1900, +0.2100]"


def test_bars_of_a_list_add_up_to_all_that_is_shown() -> None:
    figure = exposure_figure(grouped_content())
    assert [trace.name for trace in figure.data] == ["head", "torso", "tail", "no likes yet"]
    np.testing.assert_allclose(np.sum([trace.x for trace in figure.data], axis=0), [1, 1, 1])
    assert figure.data[0].x[1] == 0.5
    points = user_figure(grouped_content()).data
    assert list(points[0].x) == [0.12, 0.18]
    np.testing.assert_allclose(points[0].error_x.array, [0.01, 0.01])
    assert len(points[1].x) == 0


def test_the_page_shows_groups_below_the_list(tmp_path: Path) -> None:
    write_json(tmp_path / "lists.json", grouped_content())
    facts = build_report(
        artifacts.make_evaluation(tmp_path / "evaluation"),
        artifacts.make_dataset(tmp_path / "dataset"),
        artifacts.make_split(tmp_path / "split"),
        artifacts.CONFIG,
        tmp_path / "out",
        lists_path=tmp_path,
    )
    page = Path(facts["path"]).read_text("utf-8")
    assert facts["num_figures"] == 10
    assert page.index("The list that is served") < page.index("Who is served well") < page.index("Scores of rows")
    assert "&lt;b&gt;M" in page
    assert "<b>M" not in page


def test_the_command_names_groups_that_are_served_less_well() -> None:
    assert group_sentences(lists_content()) == []
    assert group_sentences(grouped_content()) == [
        "Shown, and in brackets what users had liked: head 50.0% (30.0%), torso 40.0% (50.0%), tail 6.0% (20.0%), "
        "no likes yet 4.0% (0.0%)",
        "NDCG@10 below that of all others, beyond the interval: gender F (-0.0600 [-0.0700, -0.0500])",
    ]
