"""What is wrong with a value in a configuration, in words that say what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

Section = type[BaseModel]


def explain(root: Section, error: Mapping[str, Any]) -> str:
    """One line: place, rule, the value that was there, and what is known there.

    Args:
      root: the class of the whole configuration.
      error: one of ``pydantic.ValidationError.errors()``.
    """
    where = ".".join(str(part) for part in error["loc"]) or "top level"
    got = repr(error["input"])
    got = got if len(got) <= 80 else got[:77] + "..."
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = sorted(_keys(_at(root, error["loc"][:-1])))
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{where}: unknown key; {hint}known: {', '.join(known)} (got {got})"
    if kind == "union_tag_not_found":
        kinds = ", ".join(sorted(_members(_annotation(root, error["loc"]))))
        return f"{where}: kind is missing; one of {kinds} (got {got})"
    if kind == "union_tag_invalid":
        tags = error["ctx"]["expected_tags"].replace("'", "")
        return f"{where}: kind {error['ctx']['tag']!r} does not exist; one of {tags}"
    if kind == "string_type" and isinstance(error["input"], bool):
        return f"{where}: {message}; YAML reads yes, no, on and off as true and false: quote it"
    if kind == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message} (got {got})"


def _keys(section: Section | None) -> set[str]:
    return set(section.model_fields) if section else set()


def _at(root: Section, location: tuple[Any, ...]) -> Section | None:
    """The settings class at a location; unions are followed by their kind."""
    here: Any = root
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        else:
            here = _members(here).get(str(part))
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _annotation(root: Section, location: tuple[Any, ...]) -> Any:
    parent = _at(root, location[:-1])
    field = parent.model_fields.get(str(location[-1])) if parent else None
    return field.annotation if field else None


def _members(union: Any) -> dict[str, Section]:
    """kind -> settings class of a discriminated union."""
    found = {}
    for member in get_args(union):
        for each in get_args(member) or (member,):
            if (
                isinstance(each, type)
                and issubclass(each, BaseModel)
                and "kind" in each.model_fields
            ):
                found[str(each.model_fields["kind"].default)] = each
    return found
