"""A public identity from a file, taken once a person has compared its fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import err, fail, out

if TYPE_CHECKING:
    from fedcore.sites.identity import PublicIdentity

MOST_BYTES = 4096  # a public identity has 230

Fingerprint = Annotated[
    str | None,
    typer.Option(
        metavar="HEX",
        help="As its owner read it out; it is compared, and nothing is asked.",
    ),
]


def show_public(public: PublicIdentity) -> None:
    """The JSON to hand over on stdout, so that `> FILE` takes it; the fingerprint on stderr."""
    print(json.dumps(public.to_json(), indent=2))
    err.print(f"fingerprint  {public.fingerprint}")


def read_public(file: Path) -> PublicIdentity:
    """The public identity in a file that somebody sent; ends the command when it is none."""
    from fedcore.sites.identity import IdentityError, PublicIdentity
    from fedcore.sites.refusal import Refusal
    from fedcore.sites.strict_json import parse

    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        return PublicIdentity.from_json(parse(data, most_bytes=MOST_BYTES))
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except (Refusal, IdentityError) as error:
        fail(
            f"{file} is no public identity ({error}). It is what `fedloom site identity` prints at "
            "a site, and `fedloom sites identity` at the coordinator."
        )


def require_compared(public: PublicIdentity, expected: str | None) -> None:
    """Ends the command unless the fingerprint is the expected one, or a person says so."""
    out.print(f"name         {public.name}")
    out.print(f"fingerprint  {public.fingerprint}")
    if expected is None:
        if not typer.confirm("Did its owner read out the same, by telephone or in person?"):
            fail("nothing was changed.")
    elif "".join(expected.lower().split()) != public.fingerprint.replace(" ", ""):
        fail(
            "--fingerprint is not that of the file: it was mixed up or changed on its way. Nothing "
            "was changed; ask its owner for the file again."
        )
