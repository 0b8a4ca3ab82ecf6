"""Commands that ask what knowledge is worth, and those that make more of it: study, advise, rank, fine-tune, enrich."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorefuse.cli.options import ConfigOption
from lorefuse.core.log import short_log
from lorefuse.core.settings import settings

if TYPE_CHECKING:
    from lorefuse.config import PipelineConfig

OutOption = Annotated[Path | None, typer.Option(help="Folder of the results; default: below <home>.")]


def register_study_commands(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for name, command in (
        ("study", study), ("advise", advise), ("rank", rank), ("lists", lists), ("leaks", leaks),
        ("fine-tune", fine_tune_encoder),
        ("enrich", enrich),
    ):  # fmt: skip
        app.command(name=name)(command)


def study(
    config: ConfigOption,
    vary: Annotated[
        list[str] | None, typer.Option(help="Setting and its values, e.g. model.fusion=residual,concat; repeatable.")
    ] = None,
    out: OutOption = None,
) -> None:
    """Ask whether knowledge helped: lists and scores of every arm and seed, with intervals and a verdict."""
    from lorefuse.auto.pinned import load_chosen
    from lorefuse.steps import prepare
    from lorefuse.study.leak import check_leaks
    from lorefuse.study.report import headline, list_sentences, write_study_report
    from lorefuse.study.run import run_study
    from lorefuse.study.track import track_study
    from lorefuse.study.variants import make_variants

    loaded = load_chosen(config)
    variants = make_variants(loaded, vary or [])
    out_path = out or settings().home_path / "study" / loaded.name
    with short_log():
        artifacts = [prepare(variant.config) for variant in variants]
    for folders in {str(made["training_set"]): made for made in artifacts}.values():
        facts = check_leaks(folders)
        typer.echo(
            f"leak check: {', '.join(facts['cutoffs'])} know nothing after {facts['data_cutoff']}; "
            f"{facts['num_sampled']} rows counted anew"
        )
    with short_log():
        content = run_study(variants, artifacts, out_path)
    page_path = write_study_report(content, out_path)
    for entry in content["variants"]:
        typer.echo(f"{entry['name']}")
        judged = content["lists"].get(entry["name"])
        if judged is not None:
            _show_lists(judged)
            for subset, verdict in list_sentences(judged).items():
                typer.echo(f"  {subset} in the list  {verdict}")
        for bucket, verdict in entry["verdicts"].items():
            typer.echo(f"  scores, {bucket.replace('_', ' '):10} {verdict}")
    for entry in content["baselines"]:
        known = ((name, entry["metrics"].get(name)) for name in headline(content))
        figures = ", ".join(f"{name} {value:.4f}" for name, value in known if value is not None)
        typer.echo(f"{entry['name']} {entry['arm']}: {figures}")
    typer.echo(f"best by validation: {content['best_by_validation']}")
    typer.echo(f"report  {page_path}\nMLflow  {track_study(content, loaded, out_path)}")


def advise(
    config: ConfigOption,
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the advice as JSON to this file.")] = None,
) -> None:
    """Propose model, reducer, fusion and encoder from what the data is like, each with its reason and its evidence."""
    from lorefuse.config import load_config
    from lorefuse.core.atomic import write_json
    from lorefuse.study.advise import advise_config, as_text

    with short_log():
        content = advise_config(load_config(config))
    if json_out is not None:
        write_json(json_out, content)
    typer.echo(as_text(content))


def lists() -> None:
    """Show what the list of the last run is worth, beside simple recommenders and with other knowledge."""
    from lorefuse.core.errors import UsageError
    from lorefuse.report.groups import group_sentences
    from lorefuse.report.lists import list_verdicts
    from lorefuse.training.evaluation import read_json

    home_path = settings().home_path
    if not (home_path / "lists.json").is_file():
        raise UsageError(
            "No list has been judged here.", expected=f"{home_path / 'lists.json'}", got="nothing", fix="lorefuse run"
        )
    content = read_json(home_path, "lists.json")
    _show_lists(content)
    for line in list_verdicts(content):
        typer.echo(f"Knowledge, {line['temperature']} items in the list: {line['verdict']} ({line['number']})")
    for text in group_sentences(content):
        typer.echo(text)


def leaks(
    config: ConfigOption,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures as JSON to this file.")
    ] = None,
) -> None:
    """Ask what the ranker gives away about its train rows: membership attacks, user embeddings, item texts."""
    from lorefuse import steps
    from lorefuse.auto.pinned import load_chosen
    from lorefuse.core.atomic import write_json
    from lorefuse.leaks.run import read_leaks
    from lorefuse.report.leaks import ATTACKS, interval_text, privacy_text, verdict_text, write_leaks
    from lorefuse.study.run import make_evaluation

    loaded = load_chosen(config)
    with short_log():
        artifacts = steps.prepare(loaded)
        evaluation = make_evaluation(loaded, artifacts)
        measured = steps.membership(steps.dump_config(loaded), artifacts["training_set"], evaluation)
    content = {"name": loaded.name, **read_leaks(measured.path, artifacts["training_set"], artifacts["embeddings"])}
    page_path = write_leaks(content, settings().home_path)
    if json_out is not None:
        write_json(json_out, content)
    for (part, attack), (title, _) in ATTACKS.items():
        entry = content[part][attack]
        typer.echo(f"{title:40} AUC {interval_text(entry['auc'])}, found at 1 % {interval_text(entry['tpr'])}")
    if content["ids"] is not None:
        typer.echo(f"user embeddings: likes of train − others {interval_text(content['ids']['halves']['difference'])}")
    typer.echo(f"verdict: {verdict_text(content)}\nprivacy: {privacy_text(content['privacy'])}\nreport  {page_path}")


def _show_lists(content: Mapping[str, Any]) -> None:
    """Print the table of lists that `lists.judge.compare` has judged."""
    from rich.console import Console
    from rich.table import Table

    from lorefuse.report.lists import list_rows, metric_names

    titles = [f"{title} {subset}" for title, subset in metric_names(content).values()]
    shown = [place for place, title in enumerate(titles) if "MRR" not in title and title != "Recall@20 cold"]
    title = f"Full rankings of {content['num_users']:,} test users"
    table = Table("list", *(titles[place] for place in shown), f"served − it, {titles[0]}", title=title)
    for row in list_rows(content):
        cells = [row["cells"][place] for place in shown]
        texts = [f"[bold]{cell['text']}[/]" if cell["best"] else cell["text"] for cell in cells]
        # A bracket that stands for itself, and not for a style, is escaped.
        gain = row["gain"]["text"].replace("[", r"\[") if row["gain"] else ""
        table.add_row(row["name"], *texts, gain)
    Console().print(table)


def rank(config: ConfigOption) -> None:
    """Rank the whole catalogue by popularity, neighbours, EASE, text, towers and hybrids; warm and cold apart."""
    from rich.console import Console
    from rich.table import Table

    from lorefuse.auto.pinned import load_chosen
    from lorefuse.core.progress import track
    from lorefuse.core.schema import Split
    from lorefuse.retrieval.build import build_recommender, seeds_of
    from lorefuse.retrieval.data import from_training_set
    from lorefuse.retrieval.evaluate import evaluate_retrieval
    from lorefuse.steps import prepare
    from lorefuse.training_set.arrays import TrainingSet

    loaded = load_chosen(config)
    section = loaded.retrieval
    with short_log():
        training_set = TrainingSet.load(prepare(loaded)["training_set"])
    threshold = 0.5 if loaded.data.label.kind == "binary" else loaded.data.label.threshold
    judged, validation = (
        from_training_set(training_set, threshold=threshold, judged=part, recency_half_life=section.recency_half_life)
        for part in (Split.TEST, Split.VALIDATION)
    )
    names = [f"{metric}_{subset}" for metric in (f"ndcg_at_{section.k}", f"recall_at_{section.recall_k}")
             for subset in ("warm", "cold")]  # fmt: skip
    table = Table(
        "recommender", *(name.replace("_at_", "@").replace("_", " ") for name in names), "coverage", "novelty"
    )
    for name in track(section.recommenders, "Ranking"):
        report = evaluate_retrieval(
            partial(build_recommender, name, section),
            judged,
            seeds=seeds_of(name, section),
            k=section.k,
            recall_k=section.recall_k,
            num_bootstraps=section.num_bootstraps,
            validation=validation,
        )
        cells = [report.estimates[key] for key in names]
        shown = [f"{cell.mean:.4f} [{cell.low:.4f}, {cell.high:.4f}]" if cell.num_users else "–" for cell in cells]
        table.add_row(name, *shown, f"{report.coverage:.3f}", f"{report.novelty:.2f}")
    Console().print(table)


def fine_tune_encoder(config: ConfigOption, out: OutOption = None) -> None:
    """Fine-tune the text encoder on what is liked together (train rows alone); name the folder as embedding.encoder."""
    from lorefuse.config import load_config
    from lorefuse.core.atomic import atomic_folder
    from lorefuse.data.dataset import Dataset
    from lorefuse.embedding.finetune import fine_tune

    loaded = load_config(config)
    dataset, parts = _dataset_and_parts(loaded)
    out_path = out or settings().home_path / "encoders" / loaded.name
    with atomic_folder(out_path) as draft_path:
        report = fine_tune(Dataset.open(dataset), parts, loaded.embedding, draft_path)
    for name, value in report.items():
        if not isinstance(value, list | dict):
            typer.echo(f"{name}: {value}")
    typer.echo(f"encoder  {out_path} (set embedding.encoder to it)")


def enrich(
    config: ConfigOption,
    about: Annotated[Literal["items", "users"], typer.Option(help="Whom to write about.")] = "items",
    out: OutOption = None,
) -> None:
    """Let a language model write about items or users; each question is sent once (LOREFUSE_LLM_URL, _KEY)."""
    from lorefuse.config import load_config
    from lorefuse.core.atomic import atomic_folder
    from lorefuse.core.errors import ConfigError
    from lorefuse.data.dataset import Dataset
    from lorefuse.enrich.write import DEFAULT_SCRUB, write_item_knowledge, write_user_knowledge

    loaded = load_config(config)
    if loaded.enrich is None:
        raise ConfigError("The preset does not say which model to ask.", fix="add a section `enrich: {model: <name>}`")
    dataset, parts = _dataset_and_parts(loaded)
    scrub = loaded.privacy.scrub if loaded.privacy else DEFAULT_SCRUB
    out_path = out or settings().home_path / "knowledge" / f"{loaded.name}-{about}"
    with atomic_folder(out_path) as draft_path:
        if about == "items":
            report = write_item_knowledge(Dataset.open(dataset), loaded.enrich, draft_path, scrub)
        else:
            report = write_user_knowledge(Dataset.open(dataset), parts, loaded.enrich, draft_path, scrub=scrub)
    for name, value in report.items():
        typer.echo(f"{name}: {value}")
    named = "embedding.written" if about == "items" else "embedding.written_users"
    typer.echo(f"knowledge  {out_path} (name it in {named})")


def _dataset_and_parts(config: PipelineConfig) -> tuple[Path, Path]:
    from lorefuse import steps

    content = steps.dump_config(config)
    with short_log():
        dataset = steps.ingest(content).path
        return dataset, steps.split(content, config.split.strategy, dataset).path
