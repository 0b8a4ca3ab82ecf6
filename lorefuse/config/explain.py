"""The configuration explained: every key with its meaning, and where each value of a run's configuration comes from."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lorefuse.config.pipeline import PipelineConfig

DEFAULT = "default"


class Value(NamedTuple):
    """A key of the effective configuration.

    Attributes:
        key: With its sections, such as ``model.family``.
        value: As JSON holds it.
        source: The preset's file, `DEFAULT`, or whatever else has set it.
    """

    key: str
    value: Any
    source: str


def effective(config: PipelineConfig, path: Path, chosen: PipelineConfig | None = None) -> list[Value]:
    """Return every key of a configuration with its value and where that comes from.

    Args:
        config: As `load_config` reads the preset.
        path: The preset.
        chosen: As a race has chosen, where one has; null: none has, or the preset leaves nothing open.
    """
    written = yaml.safe_load(path.read_text("utf-8")) or {}
    asked = dict(_flat(config.model_dump(mode="json")))
    values = asked if chosen is None else dict(_flat(chosen.model_dump(mode="json")))
    result = []
    for key, value in values.items():
        if _has(written, key.split(".")):
            source = path.name
        elif key not in asked or value != asked[key]:
            source = "chosen by the race"
        else:
            source = DEFAULT
        result.append(Value(key, value, source))
    return result


def reference() -> str:
    """Return a page in Markdown with every key: its kind, its default and its meaning."""
    lines = [
        "# Every key of the configuration",
        "",
        "One YAML file decides a run. A key that is left out has its default; an unknown key is an error.",
        "`lorefuse config` shows what a file comes to, and where each value is from.",
    ]
    for title, about, fields in _sections(PipelineConfig, ""):
        lines += [
            "",
            f"## {title or 'Top level'}",
            "",
            about,
            "",
            "| key | kind | default | meaning |",
            "|---|---|---|---|",
        ]
        for key, kind, default, meaning in fields:
            lines.append(f"| `{key}` | {kind} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a preset, for editors that complete and check YAML."""
    return PipelineConfig.model_json_schema()


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _has(content: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _sections(model: type[BaseModel], name: str) -> Iterator[tuple[str, str, list[tuple[str, str, str, str]]]]:
    """Yield title, docstring and rows of a section, then of the sections inside it."""
    inner: list[tuple[str, type[BaseModel]]] = []
    rows = []
    for key, field in model.model_fields.items():
        sections = list(_models_of(field.annotation))
        if sections:
            several = len(sections) > 1
            inner += [(f"{name}{key}" + (f" ({_kind_of(one)})" if several else ""), one) for one in sections]
            if not field.description:
                continue
        kind, default = _cell(_type_text(field.annotation)), _cell(_default_text(field))
        rows.append((key, kind, default, _cell(field.description or "")))
    about = inspect.getdoc(model) or ""
    if rows:
        yield name.rstrip("."), about, rows
    for title, section in inner:
        yield from _sections(section, f"{title}.")


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, list, dict):
        for one in get_args(annotation):
            yield from _models_of(one)


def _kind_of(model: type[BaseModel]) -> str:
    """Return what tells a model from its siblings: the literal of its `kind` or `family`."""
    for name in ("kind", "family"):
        if name in model.model_fields:
            return ", ".join(map(str, get_args(model.model_fields[name].annotation)))
    return model.__name__


def _type_text(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type_text(part) for part in parts)
    if origin in (tuple, list):
        return f"list of {_type_text(parts[0])}" if parts else "list"
    if origin is dict:
        return f"mapping of {_type_text(parts[0])} to {_type_text(parts[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or isinstance(default, BaseModel):
        return ""
    text = yaml.safe_dump(_plain(default), default_flow_style=True, allow_unicode=True, width=10**6)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
