"""`feast -f feature_store.prod.yaml …`, run by hand against real PostgreSQL and Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorefuse.core.schema import View
from lorefuse.core.stores import redis_client
from lorefuse.feature_store.online import redis_connection_string
from tests.helpers.feature_world import make_world
from tests.helpers.store_servers import Server, postgres_url, redis_url

PROJECT_PATH = Path(__file__).resolve().parents[2]
PROJECT = "lorefuse_by_hand"


@pytest.mark.slow
def test_apply_and_materialize_by_hand(tmp_path: Path, postgres: Server, redis_server: Server) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOREFUSE_")}
    environment = {
        **kept,
        "PYTHONPATH": str(PROJECT_PATH),
        "FEAST_USAGE": "False",
        "LOREFUSE_FEATURE_DATA": str(make_world(tmp_path).feature_data_path),
        "LOREFUSE_FEAST_PROJECT": PROJECT,
        "LOREFUSE_FEAST_REGISTRY": postgres_url(postgres.port).replace("postgresql", "postgresql+psycopg") + "/feast",
        "LOREFUSE_FEAST_REDIS": redis_connection_string(redis_url(redis_server.port)),
    }

    def feast(*arguments: str) -> str:
        command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "-f", "feature_store.prod.yaml"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=PROJECT_PATH / "feature_repo",
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    feast("apply")
    listed = feast("feature-views", "list").split()
    assert {view for view in View if view in listed} == set(View)
    feast("materialize", "1969-12-31T00:00:00", "2012-01-01T00:00:00", "--views", View.USER_STATS)
    with redis_client(redis_url(redis_server.port)) as client:
        assert any(key.endswith(PROJECT.encode()) for key in client.scan_iter(match="*user_id*"))
