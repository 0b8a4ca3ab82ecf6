"""`make bench`: what the benchmarks of all stages say in the end, in one table and on one page."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.browser import opened, without_chromium
from tests.helpers.shop import PROJECT_PATH

BENCHMARKS_PATH = PROJECT_PATH / "benchmarks"
STAGE = """
from verdict import give
print("a table of its own")
print("other peer: SKIPPED, it cannot be installed")
give("training", "batch 4096", "peer", [2.5, 1.5, 2.2], goal=2)
give("training", "batch 64", "peer", [1.5], goal=2)
give("pipeline", "a preset", "functions", [3.0], goal=10, unit="% more", at_most=True)
give("online features", "1 entity", "peer", [5.0, 7.0])
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The driver, with a stage that works and one that breaks down."""
    monkeypatch.syspath_prepend(str(BENCHMARKS_PATH))
    module = importlib.import_module("bench")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "works.py").write_text(STAGE, "utf-8")
    (tmp_path / "benchmarks" / "breaks.py").write_text("raise SystemExit('no such peer')", "utf-8")
    monkeypatch.setattr(module, "STAGES", {"training": (("works.py",),), "tuning": (("breaks.py",),)})
    monkeypatch.setattr(module, "QUICK", {})
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS_PATH))
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "out")])
    return module


def test_every_command_is_a_benchmark_that_is_there() -> None:
    sys.path.insert(0, str(BENCHMARKS_PATH))
    try:
        module = importlib.import_module("bench")
    finally:
        sys.path.remove(str(BENCHMARKS_PATH))
    assert set(module.QUICK) <= set(module.STAGES)
    for commands in (*module.STAGES.values(), *module.QUICK.values()):
        assert all((BENCHMARKS_PATH / command[0]).is_file() for command in commands)


def test_all_stages_end_in_one_table_and_a_broken_one_is_named(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main()
    printed = capsys.readouterr().out
    assert ended.value.code == 1
    assert "a table of its own" in printed
    assert "| training | batch 4096 | peer | 2.20x [1.50-2.50] | ≥ 2.00x | reached |" in printed
    assert "| training | batch 64 | peer | 1.50x | ≥ 2.00x | **not reached** |" in printed
    assert "| pipeline | a preset | functions | 3.00 % more | ≤ 10.0 % more | reached |" in printed
    assert "| online features | 1 entity | peer | 6.00x [5.00-7.00] |  |  |" in printed
    assert "2 of 3 goals reached" in printed
    assert "works.py: other peer: SKIPPED, it cannot be installed" in printed
    assert "breaks.py ended with exit code 1" in printed
    assert "a table of its own" in (tmp_path / "out" / "training_0.txt").read_text("utf-8")


@pytest.mark.browser
@without_chromium
def test_a_browser_draws_the_page(bench: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        bench.main()
    with opened(tmp_path / "out" / "bench.html") as found:
        traces = found.page.evaluate("document.querySelectorAll('.plot .trace').length")
        words = found.page.inner_text("main")
    assert found.complaints == []
    assert traces == 4  # reached, not reached, no goal, goals
    assert "2 of 3 goals reached" in words
