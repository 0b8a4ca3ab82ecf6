"""With pseudonyms nothing that a run, a refresh or a server writes holds a raw id; clients hash at the edge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from lorefuse.deploy.ports import HOST
from lorefuse.privacy.pseudonyms import KEY_VARIABLE
from tests.helpers.new_rows import write_more_of_the_same
from tests.helpers.planted import MAIL, NEEDLES, PHONE, places, plant
from tests.helpers.shop import (
    SERVES,
    finished,
    grpc_port,
    lorefuse,
    no_serving,
    pipeline,
    serve_flags,
    write_preset,
    write_shop,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("privacy")]
KEY, OTHER_KEY = "a-key-of-the-test-that-is-long-enough", "another-key-that-is-long-enough-as-well"
BROKEN = ['"Anna7.zq7@planted.example,i1', "+49 1517 000009,i1,5,1600000000,more,cells"]
"""Lines that cannot be read, which hold ids."""


@dataclass
class Shop:
    """A home in which a shop's pipeline ran, whose customers are known by mail addresses and telephone numbers."""

    home_path: Path
    data_path: Path
    config_path: Path
    environment: dict[str, str]

    def ask(self, *arguments: str, key: str = KEY) -> tuple[int, str]:
        """Run a command with a key; return its exit code and what it said."""
        run = lorefuse(self.home_path, *arguments, **self.environment, **{KEY_VARIABLE: key})
        assert "Traceback" not in run.stdout + run.stderr
        return run.returncode, run.stdout + run.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("shop")
    write_shop(path / "data")
    write_more_of_the_same(path / "data", path / "data" / "more.csv")
    for name in ("interactions.csv", "more.csv"):
        frame = pd.read_csv(path / "data" / name)
        lines = frame.assign(user_id=plant(frame["user_id"])).to_csv(index=False) + "\n".join(BROKEN) + "\n"
        (path / "data" / name).write_text(lines)
    config_path = write_preset(path / "data", privacy={}, evaluation__global_cut=False)
    shop = Shop(path / "home", path / "data", config_path, {"LOREFUSE_TRITON_URL": f"{HOST}:{grpc_port()}"})
    try:
        finished(pipeline(shop.home_path, config_path, *serve_flags(), **shop.environment, **{KEY_VARIABLE: KEY}))
        yield shop
    finally:
        assert shop.ask("down")[0] == 0


def test_no_byte_of_the_home_holds_an_id_or_the_key(shop: Shop) -> None:
    assert places(shop.data_path), "the search finds what is there"
    assert places(shop.home_path, (*NEEDLES, KEY)) == []
    assert places(shop.home_path, ["psn_"]), "the search finds pseudonyms in the very same places"


@no_serving
@pytest.mark.triton
@pytest.mark.parametrize("user", [MAIL.format("Anna2"), PHONE.format(3)])
def test_a_raw_id_is_answered_as_the_person_it_is(shop: Shop, user: str) -> None:
    code, said = shop.ask("recommend", "--user", user, "-k", "3")
    assert code == 0, said
    assert re.search(r"liked: (Garden|Kitchen|Music|Sport) thing", said), said
    assert "nothing yet" in shop.ask("recommend", "--user", "somebody new")[1]
    assert places(shop.home_path, (*NEEDLES, KEY)) == []


@no_serving
@pytest.mark.triton
@pytest.mark.parametrize(("key", "reason"), [("", "user_id is none"), (OTHER_KEY, "pseudonym of the key")])
def test_a_client_without_the_key_is_refused(shop: Shop, key: str, reason: str) -> None:
    code, said = shop.ask("recommend", "--user", PHONE.format(3), key=key)
    assert code == 2
    assert reason in said
    assert "+49" not in said
    assert places(shop.home_path) == []


def test_a_run_without_a_key_is_refused_before_it_starts(shop: Shop) -> None:
    before = sorted((shop.home_path / "runs").iterdir())
    code, said = shop.ask("run", "--config", str(shop.config_path), key="")
    assert code == 2
    assert f"expected: the environment variable {KEY_VARIABLE}" in said
    assert sorted((shop.home_path / "runs").iterdir()) == before


def test_a_refresh_with_another_key_is_refused(shop: Shop) -> None:
    new = ("--new", str(shop.data_path / "more.csv"), "--no-deploy")
    code, said = shop.ask("refresh", "--config", str(shop.config_path), *new, key=OTHER_KEY)
    assert code == 2, said
    assert "was trained on another dataset" in said


def test_a_refresh_leaves_no_id_either(shop: Shop) -> None:
    new = ("--new", str(shop.data_path / "more.csv"), *([] if SERVES else ["--no-deploy"]))
    code, said = shop.ask("refresh", "--config", str(shop.config_path), *new)
    assert code == 0, said
    assert "num_new 300, num_duplicates 10" in said
    assert places(shop.home_path, (*NEEDLES, KEY)) == []
