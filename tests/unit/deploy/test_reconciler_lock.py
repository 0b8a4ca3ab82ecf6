from __future__ import annotations

from pathlib import Path

import pytest

from lorefuse.core.errors import UsageError
from lorefuse.deploy.reconcile import is_running, only_one


def test_one_reconciler_at_a_time(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with only_one(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(UsageError, match="already runs"), only_one(tmp_path):
            pass
    assert not is_running(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "reconciler.lock"]
