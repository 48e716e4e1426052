"""Where clients are: in this installation, or at sites of their own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedcore.form import Choice
from fedcore.settings import Settings

SiteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Local(Settings, title="Here"):
    """All clients' samples are in this installation, which does their work."""

    kind: Literal["local"] = "local"


class Sites(Settings, title="Sites"):
    """Each client is a site with its own rows, which never leave it."""

    kind: Literal["sites"] = "sites"
    sites: tuple[SiteName, ...] = Field(
        (), max_length=1000, description="Sites that are invited. Empty: all that are registered."
    )
    mailbox: str = Field(
        "",
        description="Folder or URL (s3://...) where the coordinator and the sites leave each other "
        "messages. Empty: the folder mailbox of this installation.",
    )
    join_seconds: float = Field(
        120.0,
        gt=0,
        description="Once enough sites take part, the others have until so many seconds from the "
        "invitation.",
    )
    limit_seconds: float = Field(
        3600.0,
        gt=0,
        description="Where fewer sites answer than rounds.min_clients, the run waits so many "
        "seconds for them, says for whom, and then fails; Retry goes on.",
    )
    join_later: bool = Field(
        True,
        description="A site that was not there in that time takes part from a later round on, once "
        "it has described data that fit; the run waits for nobody, and keeps who joined when.",
    )
    deadline_seconds: float = Field(
        600.0, gt=0, description="A site that has not answered until then misses the round."
    )
    quorum: int = Field(
        0,
        ge=0,
        description="Once so many sites have answered, the others have only grace_seconds left. "
        "0: all are waited for until the deadline.",
    )
    grace_seconds: float = Field(
        10.0,
        gt=0,
        description="Also the time that a site gets which has missed the round before.",
    )
    retries: int = Field(
        1, ge=0, le=10, description="How often a site that could not do a job is asked again."
    )
    quarantine: int = Field(
        3,
        ge=1,
        description="A site whose answers were refused so many times in a row is not asked again "
        "in this run.",
    )
    late: Literal["refuse", "stale"] = Field(
        "refuse",
        description="An update that comes after its round: refused, or taken as stale. Then it "
        "counts in the round that waits, unless the site's update of that round is there, with "
        "its weight divided by the root of 1 + the rounds between (FedBuff).",
    )
    most_norm: float = Field(
        1e6, gt=0, description="An update with a larger Euclidean norm is refused."
    )


EngineSettings = Annotated[Local | Sites, Field(discriminator="kind"), Choice()]
