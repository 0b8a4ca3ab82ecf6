"""The command line: help of every command, light start, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lorefuse.cli.main import app, main

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = ("torch", "mlflow", "kfp", "pandas", "numpy", "feast", "sklearn", "transformers", "optuna", "tritonclient")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command) or "-")
def test_help(command: list[str]) -> None:
    answer = CliRunner().invoke(app, [*command, "--help"])
    assert answer.exit_code == 0, answer.output
    assert "Usage:" in answer.output
    text = re.split(r"Usage:.*\n", answer.output, maxsplit=1)[1]
    assert len(text.strip().splitlines()[0]) > 20, "a command says what it does"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['lorefuse', '--help']\nfrom lorefuse.cli.main import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\nprint('HEAVY', *sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "Usage:" in said.stdout
    assert said.stdout.splitlines()[-1].split() == ["HEAVY"]


def test_every_option_is_explained() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.help, f"{name} --{parameter.name}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--config", "nowhere.yaml", "--no-deploy"], 2, ("no configuration", "fix:")),
        (["recommend", "--user", "1", "--url", "127.0.0.1:1"], 1, ("127.0.0.1:1", "fix:")),
        (["promote", "1"], 2, ("no version or alias 1", "fix: register a model: lorefuse run")),
        (["score", "--user", "1", "--item-text", "A new thing"], 2, ("fix:",)),
    ],
    ids=("no preset", "no server", "nothing registered", "nothing served"),
)
def test_errors_are_one_message_with_an_exit_code(
    arguments: list[str],
    code: int,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["lorefuse", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code, said
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said


def test_an_unknown_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["recommend", "--user", "1", "--kk", "5"]).exit_code == 2


@pytest.mark.parametrize("k", ["many", "1.5"])
def test_k_is_a_whole_number(k: str) -> None:
    assert CliRunner().invoke(app, ["recommend", "--user", "1", "-k", k]).exit_code == 2


def test_down_without_anything_running(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["down"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("was not running") == 2
