"""One run, one HTML file: no network, no server, the same in a browser, in MLflow and in a pipeline's UI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorefuse.auto.choice_file import read_choice
from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import DatasetFile
from lorefuse.lists.stage_files import LISTS_FILE
from lorefuse.report import tables
from lorefuse.report.figures import arm_order, build_figures
from lorefuse.report.groups import exposure_figure, user_figure
from lorefuse.report.lists import list_figure, list_section
from lorefuse.report.race import race_section
from lorefuse.training.evaluation import main_split, read_json, verdict_lines

REPORT_FILE, FIGURES_FILE = "report.html", "figures.json"
_CAPTIONS = {
    "learning": (
        "Learning curve",
        "Train loss and validation metrics by epoch; the weights of the best epoch are kept.",
    ),
    "roc": ("ROC on test rows", "Of the registered model; the dashed line is guessing."),
    "calibration": ("Calibration", "Ten bins of equal size; on the dashed line a score is a true probability."),
    "scores": ("Score distribution", "The further apart the two shapes, the better the model tells them apart."),
    "tuning": ("Tuning", "Dots are trials, lines the best so far."),
}


def build_report(
    evaluation_path: Path,
    dataset_path: Path,
    split_path: Path,
    config: PipelineConfig,
    out_path: Path,
    *,
    item_vectors_path: Path | None = None,
    lists_path: Path | None = None,
    choice_path: Path | None = None,
    command: str = "lorefuse run --config config.yaml",
) -> dict[str, Any]:
    """Write `report.html`, whole in one file, and `figures.json` (the plots, for other tools).

    Args:
        evaluation_path: Folder with metrics.json, history.json, trials.json, user_scores.parquet.
        dataset_path: Dataset folder; its manifest is read.
        split_path: Split folder; its split.json is read.
        config: What made the model; printed whole.
        out_path: Folder to fill.
        item_vectors_path: Item vectors, for the report on text and graph; None leaves it out.
        lists_path: What the served list is worth; None, or a folder without `lists.json`, leaves it out.
        choice_path: The race that chose the configuration; None, or a folder without `choice.json`, leaves it out.
        command: How to make this run again; the config it needs is printed below it.

    Returns:
        path, size_bytes, num_figures, verdict.

    Raises:
        ArtifactError: An input is missing or cut short.
    """
    import pandas as pd

    metrics = read_json(evaluation_path, "metrics.json")
    manifest, split = read_json(dataset_path, DatasetFile.MANIFEST), read_json(split_path, "split.json")
    try:
        scores = pd.read_parquet(evaluation_path / "user_scores.parquet")
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{evaluation_path} is not whole.", expected="user_scores.parquet", got=str(error)[:200], fix="lorefuse run"
        ) from None
    history, trials = read_json(evaluation_path, "history.json"), read_json(evaluation_path, "trials.json")
    figures = {
        name: json.loads(figure.to_json()) for name, figure in build_figures(metrics, history, trials, scores).items()
    }
    judged = read_json(lists_path, LISTS_FILE) if lists_path and (lists_path / LISTS_FILE).is_file() else None
    if judged is not None:
        figures["lists"] = json.loads(list_figure(judged).to_json())
        if "groups" in judged:
            figures["exposure"] = json.loads(exposure_figure(judged).to_json())
            figures["groups"] = json.loads(user_figure(judged).to_json())
    vectors = read_json(item_vectors_path, "item_vectors.json") if item_vectors_path else {}
    content = _content(metrics, manifest, split, vectors, config) | {"budget": tables.budget_text(trials)}
    content["lists"] = None if judged is None else list_section(judged)
    race = read_choice(choice_path)
    content["race"] = None if race is None else race_section(race)
    out_path.mkdir(parents=True, exist_ok=True)
    path = out_path / REPORT_FILE
    path.write_text(render("report.html.j2", {**content, "captions": _CAPTIONS, "command": command}, figures), "utf-8")
    write_json(out_path / FIGURES_FILE, figures)
    verdict = verdict_lines(metrics, content["main_split"])
    return {"path": str(path), "size_bytes": path.stat().st_size, "num_figures": len(figures), "verdict": verdict}


def _content(
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
    split: Mapping[str, Any],
    vectors: Mapping[str, Any],
    config: PipelineConfig,
) -> dict[str, Any]:
    import yaml

    main = main_split(metrics, config.split.strategy)
    return {
        "main_split": main,
        "source": manifest.get("source", {}).get("kind", "dataset"),
        "num_seeds": len(metrics.get("seeds", [])),
        "verdicts": verdict_lines(metrics, main),
        "splits": [
            {
                "name": name,
                "arms": arm_order(entry["arms"]),
                "test": tables.metric_rows(entry, "test"),
                "validation": tables.metric_rows(entry, "validation"),
                "verdicts": verdict_lines(metrics, name),
            }
            for name, entry in sorted(metrics["splits"].items(), key=lambda pair: pair[0] != main)
        ],
        "counts": metrics.get("counts", {}),
        "best_params": metrics.get("best_params", {}),
        "privacy": tables.privacy_rows(metrics.get("privacy")),
        "data": tables.data_rows(manifest, split),
        "quarantine": tables.quarantine_rows(manifest),
        "links": tables.fact_rows(manifest.get("reports", {})),
        "vectors": tables.fact_rows(vectors),
        "versions": tables.version_rows(),
        "config_yaml": yaml.safe_dump(config.as_preset(), sort_keys=False),
    }


def render(
    template: str, content: Mapping[str, Any], figures: Mapping[str, Any], *, templates_path: Path | None = None
) -> str:
    """Return a page of this folder's templates, whole in one file: figures, styles and plotly inside.

    Args:
        template: e.g. ``report.html.j2``.
        content: What the template reads.
        figures: Plots as plotly's JSON, by the name that ``data-figure`` asks for.
        templates_path: A folder of further templates, which may include this folder's styles and scripts.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    further = [] if templates_path is None else [FileSystemLoader(templates_path)]
    loader = ChoiceLoader([PackageLoader("lorefuse.report", "."), *further])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    # "</script>" inside a title would end the script: "<" stands as an escape in the JSON.
    figures_json = json.dumps(figures).replace("<", "\\u003c")
    return environment.get_template(template).render(
        **content,
        figure_names=list(figures),
        figures_json=Markup(figures_json),  # noqa: S704  (escaped above)
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704  (the library's own code)
    )
