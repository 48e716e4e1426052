"""A configuration as YAML in which every choice carries its description."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WIDTH = 96


def commented_yaml(config: BaseModel) -> str:
    """YAML that ``load_config`` takes back; comments come from the fields' descriptions.

    Where a section is a choice among kinds, the comment lists them.
    """
    return "\n".join(_lines(config, 0)) + "\n"


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
                line, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
        if is_section and type(value).model_fields:
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            shown = yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip()
            yield f"{indent}{name}: {shown.removesuffix('...').strip()}"


def _comments(field: FieldInfo, value: Any) -> Iterator[str]:
    if field.description:
        yield field.description
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


def _members(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a union, however deep they are annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _members(inner)
