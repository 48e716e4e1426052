"""A configuration as YAML in which every choice carries its description."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WIDTH = 96
CHANGE_ME = "CHANGE-ME"
# What a source of own data cannot do without, to be changed by whoever knows the files.
TO_CHANGE: Mapping[str, Mapping[str, Any]] = {
    "table": {
        "path": f"{CHANGE_ME}.csv",
        "label": f"{CHANGE_ME}-label",
        "numeric": [f"{CHANGE_ME}-column"],
    },
    "text": {"path": f"{CHANGE_ME}.csv"},
    "arrays": {"path": f"{CHANGE_ME}.npz"},
    "image_folder": {"path": CHANGE_ME},
}


def commented_yaml(config: BaseModel) -> str:
    """YAML that ``load_config`` takes back; comments come from the fields' descriptions.

    Where a section is a choice among kinds, or a field one among values, the comment lists them.
    """
    return "\n".join(_lines(config, 0)) + "\n"


def with_placeholders(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides by dotted key, with CHANGE-ME for what the chosen source of data needs."""
    needed = dict(TO_CHANGE.get(str(overrides.get("data.kind")), {}))
    if overrides.get("data.categorical"):
        needed.pop("numeric", None)
    if overrides.get("data.task") == "multilabel" and needed.pop("label", None):
        needed["labels"] = [f"{CHANGE_ME}-label"]
    if overrides.get("data.task") == "language":
        needed["label"] = ""
    return {**{f"data.{name}": value for name, value in needed.items()}, **overrides}


def say_how_to_give(reason: str) -> str:
    """The reason, and the options that give what has no default."""
    absent = re.findall(r"^  (\w+)\.(?:\w+\.)*(\w+): Field required", reason, re.MULTILINE)
    options = " ".join(f"-o {section}.{name}=VALUE" for section, name in absent)
    return f"{reason}\nWhat has no default is given so: {options}" if options else reason


def _lines(settings: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    fields = type(settings).model_fields
    for name, field in sorted(fields.items(), key=lambda item: item[0] != "kind"):
        value = getattr(settings, name)
        is_section = isinstance(value, BaseModel)
        if is_section and depth == 0:
            yield ""
        for line in _comments(field, value):
            yield from textwrap.wrap(
                line,
                WIDTH,
                initial_indent=f"{indent}# ",
                subsequent_indent=f"{indent}# ",
                break_on_hyphens=False,
            )
        if is_section and type(value).model_fields:
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        else:
            # A dump leaves some out that were not chosen.
            plain = settings.model_dump(mode="json", include={name}).get(name, value)
            shown = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
            yield f"{indent}{name}: {shown.removesuffix('...').strip()}"


def _comments(field: FieldInfo, value: Any) -> Iterator[str]:
    if field.description:
        yield field.description
    yield from _allowed(field.annotation)
    if isinstance(value, BaseModel):
        kinds = [
            member.model_fields["kind"].default
            for member in _members(field.annotation)
            if "kind" in member.model_fields
        ]
        doc = (type(value).__doc__ or "").strip().splitlines()
        if doc and not field.description:
            yield doc[0]
        if len(kinds) > 1:
            yield f"kind: {', '.join(kinds)}"


def _allowed(annotation: Any) -> Iterator[str]:
    """The values that a field may take, where they can be listed."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal and len(inner) > 1:
        yield f"one of: {', '.join(map(str, inner))}"
    elif origin is tuple:
        yield from (line.replace("one of", "any of", 1) for line in _allowed(inner[0]))
    elif origin in (dict, Mapping):
        for what, each in zip(("key", "value"), inner, strict=True):
            yield from (f"{what} {line}" for line in _allowed(each))
    elif origin in (Annotated, Union, UnionType):
        yield from (line for each in inner for line in _allowed(each))


def _members(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a union, however deep they are annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _members(inner)
