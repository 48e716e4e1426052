"""``fedloom sites``: the sites that a coordinator knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import sites_log, sites_statistics
from deployments.cli.command import Command
from deployments.cli.fingerprint import Fingerprint, read_public, require_compared, show_public
from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.sites.coordinator import Coordinator

app = typer.Typer(
    no_args_is_help=True,
    help="The coordinator's side of a federation: its identity, and the sites that it knows.",
)
app.add_typer(sites_log.app, name="log")
app.command("statistics", cls=Command)(sites_statistics.statistics)
File = Annotated[Path, typer.Argument(help="Public identity that the site sent (`public.json`).")]


@app.command()
def identity() -> None:
    """The coordinator's public identity, to hand to each site; keys are made at the first use.

    Read the fingerprint out to each site's administrator, by telephone or in person.

    Example: `fedloom sites identity > coordinator.json`
    """
    from fedcore.sites.identity import IdentityError

    with reasons_for(IdentityError, OSError):
        show_public(_coordinator().identity.public)


@app.command(cls=Command)
def add(
    file: File,
    most_examples: Annotated[
        int, typer.Option(min=1, help="The site has no more records; a larger claim is refused.")
    ],
    fingerprint: Fingerprint = None,
) -> None:
    """Register a site, once its fingerprint was compared with its administrator.

    Example: `fedloom sites add public.json --most-examples 500`
    """
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.identity import IdentityError

    public = read_public(file)
    with reasons_for(IdentityError, OSError, LogBroken):
        registry = _coordinator().registry
        if public.name in registry.sites():
            fail(
                f"site {public.name} is registered already. New keys of the same site: `fedloom "
                "sites rotate FILE`; another site needs another name."
            )
        require_compared(public, fingerprint)
        registry.register(public, most_examples)
        details = {"key": public.fingerprint, "most_examples": most_examples}
        _coordinator().log.append("registered", subject=public.name, details=details)
    out.print(f"{public.name} is registered, with at most {most_examples} records")


@app.command("list")
def list_sites() -> None:
    """The registered sites: whether active, most records, fingerprint, how often keys changed.

    Example: `fedloom sites list`
    """
    from fedcore.sites.identity import IdentityError

    with reasons_for(IdentityError, OSError):
        known = _coordinator().registry.sites()
    if not known:
        out.print("No site is registered. `fedloom sites add FILE --most-examples N` takes one.")
    width = max(map(len, known), default=0)
    for name, site in known.items():
        keys = f", {len(site.former)} former keys" if site.former else ""
        out.print(
            f"{name:<{width}}  {site.status:<7}  {site.most_examples} records at most  "
            f"{site.identity.fingerprint}{keys}",
            soft_wrap=True,
        )


@app.command(cls=Command)
def rotate(file: File, fingerprint: Fingerprint = None) -> None:
    """Take new keys of a registered site; what the old ones sign is refused from then on.

    A revoked site is active again.

    Example: `fedloom sites rotate public.json`
    """
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.identity import IdentityError
    from fedcore.sites.registry import UnknownSite

    public = read_public(file)
    with reasons_for(IdentityError, UnknownSite, OSError, LogBroken):
        registry = _coordinator().registry
        if registry.site(public.name).identity == public:
            fail(f"site {public.name} has these keys already; nothing was changed.")
        require_compared(public, fingerprint)
        registry.rotate(public)
        details = {"key": public.fingerprint}
        _coordinator().log.append("rotated", subject=public.name, details=details)
    out.print(f"{public.name} has new keys")


@app.command(cls=Command)
def revoke(name: Annotated[str, typer.Argument(help="Of a registered site.")]) -> None:
    """Accept nothing from a site any more, e.g. when its keys were lost or stolen.

    Example: `fedloom sites revoke north`
    """
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.identity import IdentityError
    from fedcore.sites.registry import UnknownSite

    with reasons_for(IdentityError, UnknownSite, OSError, LogBroken):
        _coordinator().registry.revoke(name)
        _coordinator().log.append("revoked", subject=name)
    out.print(f"{name} is revoked; new keys make it active again: `fedloom sites rotate FILE`")


def _coordinator() -> Coordinator:
    from fedcore.sites.coordinator import Coordinator
    from tasks import home

    return Coordinator(home.coordinator())
