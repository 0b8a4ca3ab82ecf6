"""A small shop with a signal, written as CSV files with its preset, and how to run the project's commands on it."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lorefuse.deploy.ports import HOST, free_ports

PROJECT_PATH = Path(__file__).resolve().parents[2]
CATEGORIES = ("garden", "kitchen", "music", "sport")
MATERIALS = ("wood", "steel", "glass", "wool", "paper")
NUM_USERS, NUM_ITEMS, NUM_INTERACTIONS = 150, 80, 4000
SOUND_FILE = "sound.npz"
START_S, SPAN_S = 1_600_000_000, 86_400 * 300
TIMEOUT_S = 600
SERVE_PYTHON_PATH = PROJECT_PATH / ".venv-serve" / "bin" / "python"
SERVES = SERVE_PYTHON_PATH.exists()
no_serving = pytest.mark.skipif(not SERVES, reason=f"no serving environment at {SERVE_PYTHON_PATH}: make setup")

PRESET: dict[str, Any] = {
    "name": "shop",
    "data": {
        "source": {
            "kind": "files",
            "interactions_path": "interactions.csv",
            "items_path": "items.csv",
            "triples_path": "triples.csv",
            "links_path": "links.csv",
            "item_text": ["title", "description"],
            "item_title": "title",
            "item_categories": ["category"],
            "item_multi_categories": ["materials"],
        },
        "label": {"kind": "binary", "threshold": 4.0},
    },
    "embedding": {"encoder": "minilm", "reduce_dim": 4},
    "knowledge": {"graph_dim": 4},
    "model": {
        "embedding_dim": 4,
        "hidden_dims": [8],
        "fusion_text_dim": 4,
        "fusion_graph_dim": 4,
    },
    "training": {"max_epochs": 2, "batch_size": 512, "num_threads": 1},
    "tuning": {"num_trials": 1},
    "evaluation": {"num_seeds": 1, "arms": ["real", "none"], "num_bootstraps": 10},
    "candidates": {"num_lessons": 100, "num_fit_users": 100, "num_judged_users": 100},
    "serving": {"num_reference_rows": 32},
}


def write_shop(folder_path: Path, seed: int = 0) -> Path:
    """Write the shop's CSV files and `shop.yaml` into a folder.

    Every user has a favourite category; its items get high ratings, others low ones, so there is something to learn.

    Returns:
        Path of the preset.
    """
    folder_path.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    category = random.integers(len(CATEGORIES), size=NUM_ITEMS)
    materials = [sorted(random.choice(MATERIALS, size=random.integers(1, 4), replace=False)) for _ in range(NUM_ITEMS)]
    items = pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "title": [f"{CATEGORIES[category[n]].title()} thing {n}" for n in range(NUM_ITEMS)],
            "description": [f"made of {' and '.join(materials[n])}" for n in range(NUM_ITEMS)],
            "category": [CATEGORIES[n] for n in category],
            "materials": ["|".join(names) for names in materials],
        }
    )
    favourite = random.integers(len(CATEGORIES), size=NUM_USERS)
    pairs = random.choice(NUM_USERS * NUM_ITEMS, size=NUM_INTERACTIONS, replace=False)
    users, rows = pairs // NUM_ITEMS, pairs % NUM_ITEMS
    mean = np.where(favourite[users] == category[rows], 4.6, 2.6)
    interactions = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in users],
            "item_id": [f"i{n}" for n in rows],
            "rating": np.clip(np.rint(random.normal(mean, 0.9)), 1, 5).astype(int),
            "timestamp": START_S + random.choice(SPAN_S, size=NUM_INTERACTIONS, replace=False),
        }
    )
    triples = [(f"e{n}", "category", CATEGORIES[category[n]]) for n in range(NUM_ITEMS)]
    triples += [(f"e{n}", "material", name) for n in range(NUM_ITEMS) for name in materials[n]]
    links = pd.DataFrame({"item_id": items["item_id"], "entity_id": [f"e{n}" for n in range(NUM_ITEMS)]})
    items.to_csv(folder_path / "items.csv", index=False)
    interactions.to_csv(folder_path / "interactions.csv", index=False)
    pd.DataFrame(triples, columns=["head", "relation", "tail"]).to_csv(folder_path / "triples.csv", index=False)
    links.to_csv(folder_path / "links.csv", index=False)
    _write_sound(folder_path, category, seed)
    return write_preset(folder_path)


def _write_sound(folder_path: Path, category: np.ndarray, seed: int) -> None:
    """Write vectors of one's own, which tell categories apart; two of items that come later are among them."""
    places = np.concatenate([category, [0, 2]])
    noise = np.random.default_rng(seed + 1).normal(0, 0.3, (len(places), 6))
    ids = [*(f"i{n}" for n in range(NUM_ITEMS)), "n0", "n1"]
    np.savez(folder_path / SOUND_FILE, item_id=np.array(ids), vector=np.eye(4, 6)[places] + noise)


def write_preset(folder_path: Path, **changes: Any) -> Path:
    """Write `shop.yaml` with changed values; a key is a dotted path with ``__`` for the dots, None removes the key."""
    content = copy.deepcopy(PRESET)
    for name, value in changes.items():
        *sections, key = name.split("__")
        section = content
        for part in sections:
            section = section.setdefault(part, {})
        section[key] = value
        if value is None:
            del section[key]
    path = folder_path / "shop.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def environment(home_path: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command with a home of its own."""
    dropped = ("MLFLOW_TRACKING_URI", "LOREFUSE_TRITON_URL", "LOREFUSE_TERMINAL", "LOREFUSE_IMAGE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    ours = {"LOREFUSE_HOME": str(home_path), "LOREFUSE_PROJECT": str(PROJECT_PATH), "HF_HUB_OFFLINE": "1"}
    return {**kept, **ours, "PYTHONPATH": str(PROJECT_PATH), "OMP_NUM_THREADS": "1", **more}


def lorefuse(home_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``lorefuse …`` to its end and return what it printed."""
    command = [sys.executable, "-c", "from lorefuse.cli.main import main; main()", *arguments]
    return _finish(command, environment(home_path, **more))


def pipeline(home_path: Path, config_path: Path, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pipelines.run --config …`` to its end and return what it printed."""
    return _finish(pipeline_command(config_path, *flags), environment(home_path, **more))


def pipeline_command(config_path: Path, *flags: str) -> list[str]:
    """Return the command line of a pipeline run."""
    return [sys.executable, "-m", "pipelines.run", "--config", str(config_path), *flags]


def _finish(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=PROJECT_PATH, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def without_clock(content: Any) -> Any:
    """Drop what a clock decides (seconds, milliseconds); all else must be equal to the last bit."""
    if isinstance(content, dict):
        return {name: without_clock(v) for name, v in content.items() if not name.endswith(("_s", "_ms", "_per_s"))}
    return [without_clock(value) for value in content] if isinstance(content, list) else content


def grpc_port() -> int:
    """Return a gRPC port whose neighbours below and above, which HTTP and metrics get, are free too."""
    while True:
        port = free_ports().grpc
        try:
            for other in (port - 1, port, port + 1):
                with socket.socket() as one:
                    one.bind((HOST, other))
        except (OSError, OverflowError):
            continue
        return port


def serve_flags() -> list[str]:
    """Return what a run is told where no Triton can be started."""
    return [] if SERVES else ["--no-deploy"]


def finished(run: subprocess.CompletedProcess[str]) -> None:
    """Hold a run to its end; where it failed, its output is the message."""
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
