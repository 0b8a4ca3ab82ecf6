"""A step is built again when code changes that it depends on, and only then."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorefuse.core.closure import PACKAGE_PATH, closure_of, code_of_file
from tests.helpers.shop import PROJECT_PATH, environment, write_shop

DECIDES = {
    "ingest": ("data/validate.py", "data/movielens.py", "data/relink.py"),
    "split": ("data/negatives.py",),
    "embed": ("embedding/pooling.py", "cpu/matmul.py", "embedding/words.py"),
    "embed_shard": ("embedding/cache.py",),
    "choose": ("auto/race.py", "auto/portfolio.py", "models/din.py", "embedding/reduce.py", "training/loop.py"),
    "item_vectors": ("embedding/reduce.py", "knowledge/graph.py", "enrich/histories.py"),
    "features": ("features/aggregates.py", "data/split.py"),
    "materialize": ("feature_store/bulk_write.py", "feature_store/asof_store.py"),
    "training_set": ("feature_store/asof_join.py", "features/context.py"),
    "tune": ("models/layers.py", "cpu/matmul.py", "training/listwise.py", "cpu/allocator.py"),
    "open_study": ("tuning/space.py",),
    "trial": ("models/din.py", "training/loop.py"),
    "tell_trials": ("tuning/generations.py",),
    "close_tuning": ("tuning/study.py",),
    "evaluate": ("training/row_metrics.py", "features/arms.py", "training/private.py"),
    "lists": (
        "lists/two_stage.py",
        "lists/groups.py",
        "lists/blend.py",
        "lists/sums.py",
        "retrieval/light_gcn.py",
        "features/arms.py",
    ),
    "membership": ("leaks/halves.py", "leaks/membership.py", "training/loop.py", "models/layers.py"),
    "report": ("report/report.html.j2", "report/lists.html.j2", "report/figures.py", "report/groups.html.j2"),
    "bundle": ("training/params.py", "training/evaluate.py", "embedding/reduce.py", "export/onnx.py"),
    "append_rows": ("data/append.py", "data/names.py"),
    "champion": ("registry/version.py",),
    "update_features": ("embedding/reduce.py", "feature_store/new_entities.py"),
    "update_store": ("feature_store/update.py", "feature_store/bulk_write.py"),
    "judge_refresh": ("drift/statistics.py", "report/drift.html.j2"),
    "backfill_days": ("feature_store/asof_join.py",),
    "close_backfill": ("core/atomic.py",),
    "study": ("models/fusion/attention.py", "study/buckets.py"),
    "study_common": ("lists/simple.py", "retrieval/ease.py"),
    "study_list": ("lists/two_stage.py", "lists/blend.py", "features/arms.py"),
    "baseline": ("training/linear_baselines.py", "study/cell.py"),
}
"""Every step, and files whose code decides its result; several were in no key while rooms were listed by hand."""
INNOCENT = {
    "ingest": ("models/layers.py", "features/aggregates.py"),
    "split": ("embedding/pooling.py",),
    "embed": ("training/loop.py", "knowledge/graph.py"),
    "item_vectors": ("models/layers.py",),
    "choose": ("export/onnx.py", "report/report.html.j2"),
    "training_set": ("training/loop.py", "export/onnx.py"),
    "evaluate": ("export/onnx.py", "deploy/deploy.py"),
    "report": ("models/layers.py",),
}


def _steps() -> Iterator[tuple[str, str]]:
    """Yield the name of every step and the function that builds it, from the calls of `reuse_or_build`."""
    for path in sorted(PACKAGE_PATH.rglob("*.py")):
        module = ".".join(("lorefuse", *path.relative_to(PACKAGE_PATH).with_suffix("").parts))
        for function in ast.parse(path.read_text("utf-8")).body:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reuse_or_build":
                    assert isinstance(node.args[0], ast.Constant)
                    assert isinstance(function, ast.FunctionDef)
                    yield str(node.args[0].value), f"{module}.{function.name}"


STEPS = list(_steps())


def test_every_step_is_in_the_tables_above() -> None:
    assert {name for name, _ in STEPS} == set(DECIDES)


@pytest.fixture(scope="module")
def copy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(PACKAGE_PATH, tmp_path_factory.mktemp("copy") / "lorefuse")


def _edited(path: Path) -> str:
    """Return the file's text with another first statement in its last function; other files get one more line."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text + "\n"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    line = max(function.body[-1].lineno for function in functions)
    lines = text.splitlines(keepends=True)
    indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
    return "".join([*lines[: line - 1], f"{indent}edited = True\n", *lines[line - 1 :]])


@pytest.mark.parametrize(("name", "function"), STEPS, ids=[name for name, _ in STEPS])
def test_an_edited_function_changes_the_steps_that_depend_on_it(name: str, function: str, copy_path: Path) -> None:
    if (name, function.rpartition(".")[2]) in (("tune", "_adopt"), ("choose", "_as_asked")):
        pytest.skip("adopts the result of another run, or what the preset says")
    before = closure_of([function], copy_path).digest(copy_path)
    assert before == closure_of([function]).digest(), "the same code has the same digest wherever it stands"
    for files, changes in ((DECIDES[name], True), (INNOCENT.get(name, ()), False)):
        for file in files:
            original = (copy_path / file).read_text("utf-8")
            (copy_path / file).write_text(_edited(copy_path / file), "utf-8")
            after = closure_of([function], copy_path).digest(copy_path)
            (copy_path / file).write_text(original, "utf-8")
            assert (after != before) == changes, file


def test_an_edit_of_a_step_is_no_edit_of_its_neighbour(copy_path: Path) -> None:
    path = copy_path / "steps" / "data.py"
    original = path.read_text("utf-8")
    names = ("lorefuse.steps.data.ingest", "lorefuse.steps.data.split")
    before = [closure_of([name], copy_path).digest(copy_path) for name in names]
    path.write_text(original.replace("return {**manifest", "return {'more': 1, **manifest"), "utf-8")
    after = [closure_of([name], copy_path).digest(copy_path) for name in names]
    path.write_text(original, "utf-8")
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False]


def test_what_a_type_checker_alone_imports_does_not_count(tmp_path: Path) -> None:
    package_path = tmp_path / "lorefuse"
    package_path.mkdir()
    (package_path / "__init__.py").touch()
    for name in ("a", "b", "c", "d"):
        (package_path / f"{name}.py").touch()
    text = "import typing\nif typing.TYPE_CHECKING:\n    import lorefuse.b\n"
    text += "TYPE = 'lorefuse.c.Thing'\ndef f():\n    '''See lorefuse.b.'''\n    from lorefuse import d\n"
    (package_path / "a.py").write_text(text, "utf-8")
    assert closure_of(["lorefuse.a"], package_path).files == {"__init__.py", "a.py", "c.py", "d.py"}


def test_a_component_depends_on_its_own_step() -> None:
    for path in sorted((PROJECT_PATH / "components").glob("*.py")):
        if path.stem not in ("__init__", "base", "report_failure"):
            assert any(label.endswith(f":{path.stem}") for label in code_of_file(path).parts), path.stem


RUN = """
import json, sys, threading
from pathlib import Path
from lorefuse import steps
from lorefuse.core import step_cache
from lorefuse.core.closure import PACKAGE_PATH, closure_of
from lorefuse.config import load_config

ran, inside = {}, step_cache.reuse_or_build

def watched(step, *, build, **given):
    files = set()
    def profile(frame, event, _):
        if event == "call":
            files.add(frame.f_code.co_filename)
    def building(out_path):
        if sys.argv[2] == "quick":
            return build(out_path)
        threading.setprofile(profile); sys.setprofile(profile)
        try:
            return build(out_path)
        finally:
            sys.setprofile(None); threading.setprofile(None)
    building.__module__, building.__qualname__ = build.__module__, build.__qualname__
    known = closure_of([f"{build.__module__}.{build.__qualname__.partition('.')[0]}"])
    result = inside(step, build=building, **given)
    inner = {Path(f).relative_to(PACKAGE_PATH).as_posix() for f in files if f.startswith(str(PACKAGE_PATH))}
    reached = known.files | {label.partition(":")[0] for label in known.parts}
    ran.setdefault(step, {"missed": sorted(inner - reached), "num": len(inner), "reused": result.reused})
    return result

for module in [m for n, m in sys.modules.items() if n.startswith("lorefuse.steps")]:
    if hasattr(module, "reuse_or_build"):
        module.reuse_or_build = watched
config = load_config(Path(sys.argv[1]))
c, made = steps.dump_config(config), steps.prepare(config, "per_user_time")
d, t, p, v, f, _, r = made.values()
real, none = steps.tune(c, "real", r).path, steps.tune(c, "none", r).path
e = steps.evaluate(c, r, real, none, r).path
l = steps.lists(c, t, r, e).path
steps.report(c, d, p, v, e, l)
steps.bundle(c, d, t, v, f, r, e, l)
print("RAN " + json.dumps(ran))
"""


def _run(preset_path: Path, home_path: Path, library_path: Path, how: str) -> dict[str, dict[str, object]]:
    env = environment(home_path, PYTHONPATH=f"{library_path}:{PROJECT_PATH}")
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(preset_path), how]
    ended = subprocess.run(command, env=env, cwd=home_path.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    last = next(line for line in ended.stdout.splitlines() if line.startswith("RAN "))
    content: dict[str, dict[str, object]] = json.loads(last.removeprefix("RAN "))
    return content


@pytest.mark.slow
def test_whatever_runs_in_a_step_is_in_its_key_and_an_edit_builds_it_again(tmp_path: Path) -> None:
    preset, home = write_shop(tmp_path / "shop"), tmp_path / "home"
    shutil.copytree(PACKAGE_PATH, tmp_path / "library" / "lorefuse")
    library = tmp_path / "library"
    first = _run(preset, home, library, "watched")
    assert {name: facts["missed"] for name, facts in first.items()} == {key: [] for key in first}
    assert all(facts["num"] for facts in first.values())
    path = library / "lorefuse" / "training" / "row_metrics.py"
    path.write_text(_edited(path), "utf-8")
    rebuilt = {name for name, facts in _run(preset, home, library, "quick").items() if not facts["reused"]}
    assert rebuilt == {"tune", "evaluate", "lists", "report", "bundle"}  # the report because the evaluation is another
