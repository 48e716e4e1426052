"""What a run begins with: nothing, or the finished rounds of another."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from fedcore.form import Choice, starts_at
from fedcore.settings import Settings

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

RUN = Field(
    min_length=1,
    max_length=200,
    description="Id of the run, the beginning of it, or its name.",
    json_schema_extra={"default": ""},
)


class New(Settings, title="New run"):
    """A new run of the configuration in this form."""

    kind: Literal["new"] = "new"


class Resume(Settings, title="Resume"):
    """Goes on with a run that failed, crashed or was cancelled, with that run's configuration."""

    kind: Literal["resume"] = "resume"
    run: str = RUN

    def __str__(self) -> str:
        return f"resumes {short(self.run)}"


class Extend(Settings, title="Extend"):
    """A new run that begins with all finished rounds of another and does more."""

    kind: Literal["extend"] = "extend"
    run: str = RUN
    rounds: int = Field(ge=2, description="Rounds in all.", json_schema_extra=starts_at(10))

    def __str__(self) -> str:
        return f"extends {short(self.run)}"


class Fork(Settings, title="Fork"):
    """A new run that begins with the first rounds of another; changes go into overrides."""

    kind: Literal["fork"] = "fork"
    run: str = RUN
    at_round: int = Field(
        ge=0,
        description="Rounds of that run that are kept; 0 keeps its data and first model only.",
        json_schema_extra=starts_at(1),
    )

    def __str__(self) -> str:
        return f"fork of {short(self.run)} at {self.at_round}"


def short(run: str) -> str:
    """A run as it stands in names: an id's beginning.

    >>> short("1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124"), short("digits fedavg seed 0")
    ('1c0076ac', 'digits fedavg seed 0')
    """
    return run[:8] if UUID.fullmatch(run) else run


StartSettings = Annotated[New | Resume | Extend | Fork, Field(discriminator="kind"), Choice()]
"""Not part of a configuration or its digest. All but ``new`` take the other run's configuration."""

START: TypeAdapter[Any] = TypeAdapter(StartSettings)
