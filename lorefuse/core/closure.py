"""Which code of the library something depends on: read from the sources by their imports, without importing anything.

A module depends on its whole file and on whatever it imports, at the top or inside a function, and so on. A name given
as text counts as an import: Feast is given "lorefuse.feature_store.bulk_engine.BulkComputeEngine". The room `steps`
holds the code of all steps side by side, so there it is the function that counts: its own text and that of what it
names, and what these import. Imports that only a type checker sees are none.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorefuse.core.atomic import sha256_json

PACKAGE = "lorefuse"
PACKAGE_PATH = Path(__file__).parents[1]
DATA_SUFFIXES = (".j2", ".css", ".js")
"""Files of a room that its code reads."""
_BY_FUNCTION = "steps"
_NAME_OF_OURS = re.compile(rf"{PACKAGE}(\.\w+)+")


@dataclass(frozen=True)
class Closure:
    """What something depends on.

    Attributes:
        files: Whole files, relative to the package.
        parts: Text of functions and constants of the room `steps`, by ``file:name``.
    """

    files: frozenset[str]
    parts: dict[str, str]

    def digest(self, package_path: Path = PACKAGE_PATH) -> str:
        """Return the sha256 over all of it."""
        texts = {name: (package_path / name).read_text("utf-8") for name in sorted(self.files)}
        return sha256_json([texts, self.parts])


def closure_of(names: Iterable[str], package_path: Path = PACKAGE_PATH) -> Closure:
    """Return what modules, rooms or functions of the library depend on.

    Args:
        names: Dotted names such as ``lorefuse.data.split``, ``lorefuse.models`` (a room: all of its modules) or
            ``lorefuse.steps.data.ingest``; what is not in the library is left out.
        package_path: The library's folder.
    """
    reached = _Reached(package_path)
    for name in names:
        folder_path = package_path.joinpath(*name.split(".")[1:])
        inside = sorted(folder_path.rglob("*.py")) if folder_path.is_dir() else []
        for path in inside:
            reached.add_file(path)
        if not inside:
            reached.add_name(name)
    return Closure(frozenset(path.relative_to(package_path).as_posix() for path in reached.files), reached.parts)


def code_of_file(path: Path, package_path: Path = PACKAGE_PATH) -> Closure:
    """Return what a file outside the library, such as a pipeline's component, depends on in it."""
    reached = _Reached(package_path)
    for name in _read(path).names:
        reached.add_name(name)
    return Closure(frozenset(file.relative_to(package_path).as_posix() for file in reached.files), reached.parts)


def parse_all(package_path: Path = PACKAGE_PATH) -> None:
    """Parse all sources now, so that forks of this process find them parsed."""
    for path in package_path.rglob("*.py"):
        _read(path)


def module_of(name: str, package_path: Path = PACKAGE_PATH) -> tuple[Path | None, list[str]]:
    """Return the file of the longest part of a dotted name that is a module of the library, and the rest of the name.

    Example:
        >>> path, rest = module_of("lorefuse.data.dataset.Dataset.open")
        >>> path.name, rest
        ('dataset.py', ['Dataset', 'open'])
    """
    package, *words = name.split(".")
    if package != PACKAGE:
        return None, []
    for number in range(len(words), 0, -1):
        path = package_path.joinpath(*words[:number])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file, words[number:]
    return package_path / "__init__.py", words


@dataclass
class _Reached:
    """What has been found so far."""

    package_path: Path
    files: set[Path] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)

    def add_name(self, name: str) -> None:
        """Add the module that a dotted name stands for or stands in; packages around it come along."""
        path, rest = module_of(name, self.package_path)
        if path is None:
            return
        if self._room(path) == _BY_FUNCTION:
            self._add_part(path, rest)
        else:
            self.add_file(path)

    def add_file(self, path: Path) -> None:
        """Add a whole module and what it imports."""
        if path in self.files:
            return
        self.files.add(path)
        self.files |= {file for file in path.parent.iterdir() if file.suffix in DATA_SUFFIXES}
        for folder in path.relative_to(self.package_path).parents:
            if folder.name != _BY_FUNCTION and (package := self.package_path / folder / "__init__.py").is_file():
                self.add_file(package)
        for name in _read(path).names:
            self.add_name(name)

    def _room(self, path: Path) -> str:
        parts = path.relative_to(self.package_path).parts
        return parts[0] if len(parts) > 1 else ""

    def _add_part(self, path: Path, rest: list[str]) -> None:
        """Add a function or constant of the room `steps`, what it names in its file, and what that imports."""
        source = _read(path)
        if not rest:  # the module itself: who imports it goes on to name something in it
            return
        name = rest[0]
        if name in source.imported:
            self.add_name(".".join([source.imported[name], *rest[1:]]))
            return
        label = f"{path.relative_to(self.package_path).as_posix()}:{name}"
        node = source.defined.get(name)
        if node is None or label in self.parts:
            return
        self.parts[label] = source.text(node)
        # An argument hides the function of the same name: a step is given the folder that another step made.
        hidden = {child.arg for child in ast.walk(node) if isinstance(child, ast.arg)}
        for used in {child.id for child in ast.walk(node) if isinstance(child, ast.Name)} - hidden:
            if used in source.defined:
                self._add_part(path, [used])
        for found in _names_in(node, source.imported):
            self.add_name(found)


@dataclass(frozen=True)
class _Source:
    """A parsed file: what it imports, what is defined at its top, and what each name imported there stands for."""

    names: frozenset[str]
    lines: list[str]
    defined: dict[str, ast.AST]
    imported: dict[str, str]

    def text(self, node: ast.AST) -> str:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])  # type: ignore[attr-defined]
        return "".join(self.lines[first - 1 : node.end_lineno])  # type: ignore[attr-defined]


def _read(path: Path) -> _Source:
    facts = path.stat()
    return _parsed(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=2048)
def _parsed(path: Path, mtime_ns: int, size: int) -> _Source:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    defined: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {one.id: node for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    imported = dict(bound for node in _nodes(tree.body) for bound in _bound(node))
    return _Source(frozenset(_names_in(tree, {})), text.splitlines(keepends=True), defined, imported)


def _nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes and all below them, but what stands under ``if TYPE_CHECKING:``."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _nodes(node.orelse)
            continue
        yield node
        yield from _nodes(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, and what it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, alias.name
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _names_in(tree: ast.AST, imported: dict[str, str]) -> set[str]:
    """Return the dotted names of the library that some code imports, names as text, or uses of `imported`."""
    nodes = list(_nodes([tree]))
    bound = {**imported, **dict(pair for node in nodes for pair in _bound(node))}
    names = {name for node in nodes for _, name in _bound(node)}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in bound:
            names.add(bound[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            names.add(f"{bound[node.value.id]}.{node.attr}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME_OF_OURS.fullmatch(node.value):
            names.add(node.value)
    return {name for name in names if name.split(".")[0] == PACKAGE}
