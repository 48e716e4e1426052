from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from fedcore.form import Choice, choose, in_order, merged, starts_at
from fedcore.settings import Settings


class Big(Settings, title="Big one"):
    """Has more.

    And a second paragraph.
    """

    size: float = Field(2.0, gt=0, le=10_000, description="How big.")
    kind: Literal["big"] = "big"


class Small(Settings):
    """Has nothing."""

    kind: Literal["small"] = "small"


class Other(Settings):
    """Is as big."""

    kind: Literal["other"] = "other"
    size: float = Field(2.0, gt=0, le=10_000, description="How big.")


class Needs(Settings):
    """Has no default."""

    kind: Literal["needs"] = "needs"
    depth: int = Field(ge=1, description="How deep.", json_schema_extra=starts_at(3))


Either = Annotated[Big | Small | Other | Needs, Field(discriminator="kind"), Choice()]


class Section(Settings):
    """Holds a choice."""

    choice: Either = Field(Small(), description="Which.")
    maybe: int | None = Field(None, ge=1, description="May be empty.")


SCHEMA = Section.model_json_schema()
BIG = Big.model_json_schema()
CHOICE = SCHEMA["properties"]["choice"]


def shown(value):
    return CHOICE["anyOf"][choose(value, CHOICE["anyOf"])]["title"]


def errors(value):
    """(place, message) of what the schema says is wrong."""
    from prefect.utilities.schema_tools.validation import validate

    found = validate({"choice": value}, SCHEMA)
    return {("/".join(map(str, error.path)), error.message) for error in found}


def test_a_choice_is_drawn_smallest_first_and_equals_as_one():
    assert [one["title"] for one in CHOICE["anyOf"]] == ["Small", "Big one, Other", "Needs"]
    assert "oneOf" not in CHOICE
    assert "discriminator" not in CHOICE
    menu = CHOICE["anyOf"][1]["properties"]["kind"]
    assert menu["enum"] == ["big", "other"]
    assert menu["description"] == "big: Has more. other: Is as big."


@pytest.mark.parametrize("member", [Big(), Small(), Other(), Needs(depth=1)])
def test_the_form_shows_the_alternative_of_every_value(member):
    assert type(member).model_config.get("title", type(member).__name__) in shown(
        member.model_dump()
    )


def test_kind_stands_first_and_is_a_menu():
    first, *_ = BIG["properties"].items()
    assert first[0] == "kind"
    assert first[1]["enum"] == ["big"]
    assert first[1]["description"] == "Has more."
    places = [field["position"] for field in BIG["properties"].values()]
    assert places == [0, 1]


def test_bounds_are_told_once_however_often_the_schema_is_made():
    for _ in range(3):
        Section.model_json_schema()
    schema = Section.model_json_schema()
    told = Big.model_json_schema()["properties"]["size"]["description"]
    assert told == "How big. Above 0 and at most 10,000."
    assert schema["properties"]["maybe"]["description"] == "May be empty. At least 1."
    assert [one["title"] for one in schema["properties"]["maybe"]["anyOf"]] == [
        "a whole number",
        "not set",
    ]


def test_a_mistake_stays_at_its_field():
    assert errors({"kind": "big", "size": 2.0}) == set()
    assert errors({"kind": "big", "size": -1}) == {
        ("choice/size", "-1 is less than or equal to the minimum of 0")
    }
    assert any("does_not" in message for _, message in errors({"kind": "does_not"}))
    assert errors({"kind": "needs", "depth": 0}) == {
        ("choice/depth", "0 is less than the minimum of 1")
    }


def test_validation_is_still_by_kind():
    with pytest.raises(ValidationError, match=r"choice\.big\.size"):
        Section.model_validate({"choice": {"kind": "big", "size": -1}})


def test_what_a_file_must_give_has_a_first_value_in_the_form_only():
    assert Needs.model_json_schema()["properties"]["depth"]["default"] == 3
    with pytest.raises(ValidationError, match="Field required"):
        TypeAdapter(Either).validate_python({"kind": "needs"})


def test_members_that_differ_in_a_bound_stay_apart():
    one, two = (member.model_json_schema() for member in (Big, Other))
    assert len(merged([one, two])) == 1
    two["properties"]["size"]["maximum"] = 5
    assert len(merged([one, two])) == 2


def test_order_is_kept_where_it_does_not_matter():
    def member(*names):
        return {"properties": dict.fromkeys(names)}

    given = [member("a", "b"), member("c", "d"), member("a")]
    assert in_order(given) == [given[1], given[2], given[0]]
