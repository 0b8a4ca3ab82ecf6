"""The folder and the environment that the Triton binary of `.venv-serve` needs to run.

The wheel `nvidia-pytriton` is only the carrier of the binary; its Python API is not used.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import DeployError
from lorefuse.core.profiles import VARIABLES
from lorefuse.core.settings import settings

_PROBE = """
import json, sys, sysconfig, numpy, onnxruntime, pathlib
variable = sysconfig.get_config_var
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "site": sysconfig.get_path("purelib"),
  "platsite": sysconfig.get_path("platlib"), "libdir": variable("LIBDIR"), "library": variable("INSTSONAME"),
  "base": sys.base_prefix, "numpy": numpy.__version__}))
"""
_PLAIN = re.compile(r"[\w/.@%+:,=-]+", re.ASCII)
_SETUP = "lorefuse setup-serving, or in a checkout make setup"
_KEPT = frozenset(
    {"HOME", "USER", "LOGNAME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SHELL", "XDG_RUNTIME_DIR"}
    | {"CUDA_VISIBLE_DEVICES", "LOREFUSE_ONLINE_STORE_DOWN", "GLIBC_TUNABLES", "GRPC_EXPERIMENTS"}
)
_KEPT_PREFIXES = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "MALLOC_", "NVIDIA_")
"""Variables of a process that runs code: none of them holds a secret."""
_DEBIAN_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


@dataclass(frozen=True)
class Runtime:
    """Where the parts of a Triton installation are.

    Attributes:
        server_path: The binary.
        backend_path: Folder of backends.
        cache_path: Folder of response caches.
        environment: Environment variables of the server and its stubs.
    """

    server_path: Path
    backend_path: Path
    cache_path: Path
    environment: dict[str, str]


def find_runtime(python_path: Path, folder_path: Path) -> Runtime:
    """Look into the serving environment and lay out the backends in `folder_path`.

    Args:
        python_path: Interpreter of the serving environment.
        folder_path: Where the backends are put; made where it is missing.

    Raises:
        DeployError: The environment, the binary, the stub or a shared libpython is missing, or numpy is too new.
    """
    facts = _probe(python_path)
    site_path = next(
        (path for path in (Path(facts["platsite"]), Path(facts["site"])) if (path / "pytriton").is_dir()), None
    )
    if site_path is None:
        raise DeployError("The serving environment holds no Triton.", got=f"no pytriton in {facts['site']}", fix=_SETUP)
    triton_path = site_path / "pytriton" / "tritonserver"
    stub_path = triton_path / "python_backend_stubs" / facts["version"] / "triton_python_backend_stub"
    if int(facts["numpy"].split(".")[0]) >= 2:
        raise DeployError(
            "numpy in the serving environment is too new: Triton's Python stub would return garbage.",
            expected="numpy below 2",
            got=facts["numpy"],
            fix=_SETUP,
        )
    for path in (triton_path / "bin" / "tritonserver", stub_path):
        if not path.is_file():
            raise DeployError("The serving environment's Triton is not whole.", expected=str(path), fix=_SETUP)
    _lay_out(triton_path, stub_path, folder_path)
    library_path = _library_path(facts)
    return Runtime(
        server_path=triton_path / "bin" / "tritonserver",
        backend_path=folder_path / "backends",
        cache_path=triton_path / "caches",
        environment=_environment(python_path, [library_path, site_path / "nvidia_pytriton.libs"]),
    )


def plain_path(folder_path: Path) -> Path:
    """Return a path that Triton can start its stubs from: the folder's own, or a link to it in the temporary folder.

    Triton starts a stub through a shell and puts no quotes around its path; and the stub's Python, which reads no
    environment, takes the locale's word for how paths are written: ASCII under LANG=C.

    Raises:
        DeployError: There is something else where the link would be.
    """
    if _PLAIN.fullmatch(str(folder_path)):
        return folder_path
    digest = hashlib.sha256(os.fsencode(folder_path)).hexdigest()[:16]
    link_path = Path(tempfile.gettempdir()) / f"lorefuse-{os.getuid()}-{digest}"
    if link_path.is_symlink() and link_path.readlink() == folder_path and link_path.lstat().st_uid == os.getuid():
        return link_path
    try:
        link_path.symlink_to(folder_path, target_is_directory=True)
    except OSError as error:
        raise DeployError(
            f"{folder_path} needs a short name for Triton, and {link_path} is in the way.",
            expected="nothing there, and room for a link",
            got=str(error),
            fix=f"remove {link_path}, or set LOREFUSE_HOME to a path of letters, digits and ./_-",
        ) from None
    return link_path


def _probe(python_path: Path) -> dict[str, str]:
    if not python_path.exists():
        raise DeployError(f"There is no serving environment at {python_path}.", fix=_SETUP)
    result = subprocess.run([str(python_path), "-c", _PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        got = result.stderr.strip().splitlines()[-1:] or ["no output"]
        raise DeployError("The serving environment is not whole.", got=got[0], fix=_SETUP)
    facts: dict[str, str] = json.loads(result.stdout)
    return facts


def _library_path(facts: dict[str, str]) -> Path:
    """Folder with the interpreter's own libpython: the stub must find this one before any other build's."""
    name = f"libpython{facts['version']}.so.1.0"
    candidates = [facts["libdir"], str(Path(facts["base"]) / "lib"), *_DEBIAN_LIBRARIES]
    for candidate in candidates:
        if candidate and (Path(candidate) / name).exists():
            return Path(candidate)
    raise DeployError(
        "Triton's Python stub needs a shared libpython.",
        expected=f"{name} in {', '.join(filter(None, candidates))}",
        got="none",
        fix=f"on Debian: apt-get install libpython{facts['version']}",
    )


def _lay_out(triton_path: Path, stub_path: Path, folder_path: Path) -> None:
    """Copy the backends: python from the wheel with the stub of this Python, onnxruntime from the project."""
    python_backend_path = triton_path / "backends" / "python"
    parts = {
        "python/libtriton_python.so": python_backend_path / "libtriton_python.so",
        "python/triton_python_backend_utils.py": python_backend_path / "triton_python_backend_utils.py",
        "python/triton_python_backend_stub": stub_path,
        "onnxruntime/model.py": settings().folder("serving") / "backends" / "onnxruntime" / "model.py",
    }
    for name, source_path in parts.items():
        if not source_path.is_file():
            raise DeployError("A part of the serving runtime is missing.", expected=str(source_path), fix=_SETUP)
        part_path = folder_path / "backends" / name
        # Copies: Triton refuses a backend library whose real path lies outside the backend folder.
        if not part_path.is_file() or not filecmp.cmp(source_path, part_path):
            with atomic_file(part_path) as draft_path:
                shutil.copy2(source_path, draft_path)


def _environment(python_path: Path, library_paths: list[Path]) -> dict[str, str]:
    """Return what the server and its stubs need; nothing else of this process's environment, which may hold secrets."""
    kept = {name: text for name, text in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {
        **kept,
        "LD_LIBRARY_PATH": ":".join(map(str, library_paths)),
        # The stub takes its environment from the python3 it finds first.
        "PATH": f"{python_path.parent}:{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        # Large pages, where the system gives them to who asks: a search among a million vectors reads thousands.
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        # The feature model knows no profile: it is told where Redis is.
        **({VARIABLES["online_store_url"]: settings().online_store_url} if settings().online_store_url else {}),
    }
