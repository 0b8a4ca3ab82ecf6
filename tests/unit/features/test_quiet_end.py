"""A process that used the feature store ends without a word of a library's internals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.shop import PROJECT_PATH, environment

SCRIPT = """
import sys
from pathlib import Path
from lorefuse.feature_store.store import apply_and_materialize, point_in_time
from tests.helpers.feature_world import make_world
path = Path(sys.argv[1])
world = make_world(path / "world")
(path / "store").mkdir()
apply_and_materialize(world.feature_data_path, path / "store")
print(len(point_in_time(path / "store", world.dataset.interactions())))
"""


def test_nothing_of_duckdb_is_alive_at_the_end(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        env=environment(tmp_path / "home"),
        cwd=PROJECT_PATH,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "600"
    assert "leaked" not in ended.stderr
    assert "nanobind" not in ended.stderr
