"""Run the notebooks of docs/tutorials/ and keep their outputs: ``python docs/notebooks.py [NAME …]``."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

PROJECT_PATH = Path(__file__).resolve().parents[1]
FOLDER_PATH = PROJECT_PATH / "docs" / "tutorials"
NAMES = ("movielens", "own_shop", "own_encoder_and_model")
TIMEOUT_S = 900
_DROPPED = ("LOREFUSE_HOME", "LOREFUSE_PROJECT", "LOREFUSE_PROFILE", "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")
_RUN = re.compile(r"\d{8}-\d{6}-\d{6}")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run(name: str, folder_path: Path, url: str) -> NotebookNode:
    """Run a notebook as a reader does, in an empty folder, and return it with its outputs.

    Whatever becomes of it, the servers that it started are ended.

    Args:
        name: Of the file, without its ending.
        folder_path: Where its kernel works; all it writes lies below.
        url: Free gRPC address for the Triton that it starts.

    Raises:
        CellExecutionError: A cell raised.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER_PATH / f"{name}.ipynb", as_version=4)
    with _environment(folder_path, url):
        try:
            NotebookClient(
                notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder_path)}}
            ).execute()
        finally:
            for home_path in folder_path.glob("*/.lorefuse"):
                command = [sys.executable, "-m", "lorefuse", "down"]
                env = {**os.environ, "LOREFUSE_HOME": str(home_path)}
                subprocess.run(command, env=env, cwd=folder_path, capture_output=True, timeout=120, check=False)  # noqa: S603
    return notebook


@contextlib.contextmanager
def _environment(folder_path: Path, url: str) -> Iterator[None]:
    """Give this process, and the kernel that inherits it, the variables of a reader who began in an empty folder."""
    before = dict(os.environ)
    paths = [str(Path(sys.executable).parent), before.get("PATH", "")]
    os.environ.update(
        PATH=os.pathsep.join(paths),
        PYTHONPATH=str(PROJECT_PATH),
        LOREFUSE_TRITON_URL=url,
        LOREFUSE_SERVE_PYTHON=str(PROJECT_PATH / ".venv-serve" / "bin" / "python"),
        HF_HUB_OFFLINE="1",
        OMP_WAIT_POLICY="PASSIVE",
        TOKENIZERS_PARALLELISM="false",
        IPYTHONDIR=str(folder_path / ".ipython"),
        JUPYTER_RUNTIME_DIR=str(folder_path / ".jupyter"),
    )
    for variable in _DROPPED:
        os.environ.pop(variable, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def text_of(notebook: NotebookNode) -> str:
    """Return what the cells of a notebook printed and showed, as plain text."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") + "\n" for output in outputs)


def cleaned(notebook: NotebookNode, folder_path: Path, url: str) -> NotebookNode:
    """Take out of a notebook what belongs to one machine and one moment: folders, ports, times, warnings."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        kept: list[NotebookNode] = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                continue
            if kept and "text" in output and "text" in kept[-1]:
                kept[-1].text += output.text  # a command's output arrives in pieces
            else:
                kept.append(output)
        for output in kept:
            output.pop("execution_count", None)
            if "text" in output:
                output.text = _impersonal(output.text, folder_path, url)
            if "data" in output:
                output.data = {"text/plain": _impersonal(output.data.get("text/plain", ""), folder_path, url)}
                output.metadata = {}
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
        cell.outputs = kept
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _impersonal(text: str, folder_path: Path, url: str) -> str:
    for path in {str(folder_path), str(folder_path.resolve())}:
        text = text.replace(f"{path}/", "").replace(path, ".")
    return _ANSI.sub("", _RUN.sub("TIME", text.replace(url, "127.0.0.1:8601")))


def main() -> None:
    """Run the named notebooks, or all, and write them back with their outputs."""
    import nbformat

    from lorefuse.deploy.ports import HOST, free_ports

    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            url = f"{HOST}:{free_ports().grpc}"
            notebook = run(name, Path(folder), url)
            nbformat.write(cleaned(notebook, Path(folder), url), FOLDER_PATH / f"{name}.ipynb")
        print(name, (FOLDER_PATH / f"{name}.ipynb").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
