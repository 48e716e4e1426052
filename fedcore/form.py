"""What the JSON schema of settings says to whoever draws a form from it; validation is not touched.

The operator's form is drawn from the schema of the flow's parameters. Its renderer

- draws ``anyOf`` as a choice and ``oneOf`` with a discriminator as raw JSON;
- shows the alternative that has the most keys of the value, the first one of equals;
- never shows a bound;
- says that a value fits no alternative where a single field of one is wrong.

So a choice among kinds becomes ``anyOf`` in an order in which that rule finds the right one, whose
alternatives are for drawing only; bounds are written out; and ``if``/``then`` by ``kind`` checks
the value, which leaves a mistake at its own field.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

Schema = dict[str, Any]

# What only checks a value is not drawn, and what the form cannot get wrong is not checked: for each
# deployment that is registered, the server reads the whole schema, a third of a second long.
_ASKS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "pattern", "required"),
)
_ONLY_CHECKS = frozenset({*_ASKS, "if", "then", "else", "additionalProperties"}) - {
    *("minItems", "maxItems", "required")
}
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)

# On the buttons of a field that may be empty.
_TYPES = {
    "null": "not set",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "array": "a list",
}


class Choice:
    """Annotates a union that is discriminated by ``kind``: one button for each kind in the form."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        schema = handler(core_schema)
        del schema["discriminator"]
        members = [handler.resolve_ref_schema(member) for member in schema.pop("oneOf")]
        schema["anyOf"] = [_for_drawing(one) for one in in_order(merged(members))]
        return schema | _checked_by_kind(members)


def starts_at(value: float) -> dict[str, Any]:
    """For ``json_schema_extra``: what the form puts into a field that a file must give.

    Without it a kind chosen in the form could lack the key by which the form tells it.
    """
    return {"default": value}


def draw(schema: Schema, documentation: str) -> None:
    """Make the schema of a settings class say all that the form shows; in place, any number of
    times.

    Args:
      documentation: of the class; its first sentence explains a kind.
    """
    fields: dict[str, Schema] = schema.get("properties", {})
    if kind := fields.get("kind"):
        kind["description"] = " ".join(documentation.split("\n\n")[0].split())
        schema["required"] = ["kind", *(one for one in schema.get("required", ()) if one != "kind")]
        schema["properties"] = {"kind": kind} | fields
    for position, field in enumerate(schema.get("properties", {}).values()):
        if "const" in field:  # a menu of one, where a const is an input that takes nothing
            field["enum"] = [field.pop("const")]
        field["position"] = position  # PostgreSQL does not keep the order of keys
        said, bounds = field.get("description", ""), bounds_in_words(field)
        if bounds and not said.endswith(bounds):
            field["description"] = f"{said} {bounds}".strip()
        for one in field.get("anyOf", ()):
            if one.get("type") in _TYPES:
                one["title"] = _TYPES[one["type"]]


def bounds_in_words(field: Mapping[str, Any]) -> str:
    """The numbers that a field takes, as a sentence; empty when it takes any.

    >>> bounds_in_words({"type": "number", "minimum": 0, "exclusiveMaximum": 1})
    'At least 0 and below 1.'
    >>> bounds_in_words({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'At least 1.'
    >>> bounds_in_words({"type": "array", "items": {"exclusiveMinimum": 0}})
    'Each above 0.'
    """
    items = field.get("items")
    if isinstance(items, Mapping) and (each := bounds_in_words(items)):
        return f"Each {each[0].lower()}{each[1:]}"
    for one in (field, *field.get("anyOf", ())):
        words = " and ".join(f"{word} {_number(one[key])}" for key, word in _BOUNDS if key in one)
        if words:
            return f"{words[0].upper()}{words[1:]}."
    return ""


def in_order(members: list[Schema]) -> list[Schema]:
    """The members as they are, but none before one whose keys are part of its own."""
    left, ordered = list(members), []
    while left:
        first = next(one for one in left if not any(_keys(other) < _keys(one) for other in left))
        left.remove(first)
        ordered.append(first)
    return ordered


def merged(members: list[Schema]) -> list[Schema]:
    """Members with equal fields as one, whose ``kind`` is a menu: no rule by keys tells them apart.

    Members that have the same keys with other bounds or defaults stay as they are.
    """
    found: list[list[Schema]] = []
    for member in members:
        alike = (group for group in found if _fields(group[0]) == _fields(member))
        if group := next(alike, None):
            group.append(member)
        else:
            found.append([member])
    return [_as_one(group) for group in found]


def choose(value: Mapping[str, Any], alternatives: list[Schema]) -> int:
    """Index of the alternative that the form shows for a value: most of its keys, first of equals.

    >>> choose({"kind": "b", "x": 1}, [{"properties": {"kind": {}}},
    ...                               {"properties": {"kind": {}, "x": {}}}])
    1
    """
    known = [len(value.keys() & _keys(one)) for one in alternatives]
    return known.index(max(known))


def _as_one(group: list[Schema]) -> Schema:
    if len(group) == 1:
        return group[0]
    one = copy.deepcopy(group[0])
    kinds = [member["properties"]["kind"] for member in group]
    one["title"] = ", ".join(member["title"] for member in group)
    one["properties"]["kind"] |= {
        "enum": [kind["default"] for kind in kinds],
        "description": " ".join(f"{kind['default']}: {kind['description']}" for kind in kinds),
    }
    return one


def _checked_by_kind(members: list[Schema]) -> Schema:
    """``if`` it is of this kind ``then`` it keeps that kind's rules ``else`` ..."""
    kinds = [member["properties"]["kind"]["default"] for member in members]
    chain: Schema = {"properties": {"kind": {"enum": kinds}}}
    for kind, member in zip(reversed(kinds), reversed(members), strict=True):
        is_kind = {"properties": {"kind": {"const": kind}}}
        chain = {"if": is_kind, "then": _for_checking(member) or True, "else": chain}
    return chain


def _for_checking(schema: Schema) -> Schema:
    """What a schema asks of a value that came from the form, and nothing where it asks nothing."""
    asks = {key: schema[key] for key in _ASKS if key in schema}
    if "if" in schema:
        return {key: schema[key] for key in ("if", "then", "else")}
    fields = {
        name: asked
        for name, field in schema.get("properties", {}).items()
        if (asked := _for_checking(field))
    }
    if fields:
        asks["properties"] = fields
    if isinstance(schema.get("items"), dict) and (each := _for_checking(schema["items"])):
        asks["items"] = each
    if any(map(_for_checking, schema.get("anyOf", ()))):
        asks["anyOf"] = [{"type": one["type"]} | _for_checking(one) for one in schema["anyOf"]]
    if "$ref" in schema:
        asks["$ref"] = schema["$ref"]
    return asks


def _for_drawing(schema: Any) -> Any:
    """A copy without what only checks a value; names of fields are no keywords."""
    if isinstance(schema, list):
        return [_for_drawing(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    drawn = {}
    for key, value in schema.items():
        # A free mapping is drawn as JSON because of this key; a closed one is only checked by it.
        if key in _ONLY_CHECKS and not (key == "additionalProperties" and value is not False):
            continue
        if key in ("default", "enum", "required"):
            drawn[key] = copy.deepcopy(value)
        elif key == "properties":
            drawn[key] = {name: _for_drawing(field) for name, field in value.items()}
        else:
            drawn[key] = _for_drawing(value)
    return drawn


def _keys(member: Schema) -> frozenset[str]:
    return frozenset(member.get("properties", ()))


def _fields(member: Schema) -> dict[str, Schema]:
    """What two members must have in common to be one: all but their words."""
    return {
        name: {key: value for key, value in field.items() if key != "description"}
        for name, field in member["properties"].items()
        if name != "kind"
    }


def _number(value: float) -> str:
    """As people write it."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"
