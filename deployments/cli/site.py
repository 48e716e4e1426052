"""``fedloom site``: what a site's administrator decides, on the site's own machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import site_log, site_new, site_review
from deployments.cli.command import Command
from deployments.cli.fingerprint import Fingerprint, read_public, require_compared, show_public
from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.site_folder import HERE, Folder, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcore.sites.audit_log import AuditLog
    from fedcore.sites.status import SiteStatus

app = typer.Typer(
    no_args_is_help=True,
    help="A site of a federation: who it trusts, what may leave it, and what left.",
)
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, as `status` shows it.")]

app.command("init", cls=Command)(site_new.init)
app.command("status")(site_review.status)
app.command("policy", cls=Command)(site_review.policy)
app.command("preview", cls=Command)(site_review.preview)
app.add_typer(site_log.app, name="log")


@app.command()
def serve(folder: Folder = HERE) -> None:
    """Attend the coordinator's runs, as the policy allows: start the site's worker, keep it
    running, and wait for an API that is away. Ends with Ctrl-C or SIGTERM.

    Needs `api` in site.yaml, and the gateway's token in the file `token` (mode 600).

    Example: `fedloom site serve`
    """
    from deployments.site import keep
    from fedcore.sites.folder import SiteError
    from fedcore.sites.identity import IdentityError

    site = opened(folder)
    with reasons_for(SiteError, IdentityError):
        if not site.settings.api:
            fail(f"{site.path / 'site.yaml'} has no api: the URL that the coordinator gave.")
        _ = site.coordinator, site.identity, site.token, site.secret  # each says its way out
    keep.serve(site)


@app.command()
def identity(folder: Folder = HERE) -> None:
    """The site's public identity, to hand to the coordinator, and its fingerprint.

    Example: `fedloom site identity > public.json`
    """
    from fedcore.sites.identity import IdentityError

    with reasons_for(IdentityError):
        show_public(opened(folder, reads=False).identity.public)


@app.command(cls=Command)
def trust(
    file: Annotated[Path, typer.Argument(help="The coordinator's public identity.")],
    fingerprint: Fingerprint = None,
    replaces: Annotated[
        bool, typer.Option("--replace", help="In place of the one that is trusted now.")
    ] = False,
    folder: Folder = HERE,
) -> None:
    """Listen to this coordinator and to nobody else, once its fingerprint was compared.

    Examples:

        fedloom site trust coordinator.json

        fedloom site trust coordinator.json --fingerprint "0a1b 2c3d ..."
    """
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.folder import SiteError
    from fedcore.sites.folder import trust as listen_to

    site, public = opened(folder), read_public(file)
    with reasons_for(SiteError, LogBroken, OSError):
        if (site.path / "coordinator.json").exists() and not replaces:
            if site.coordinator == public:
                out.print(f"{public.name} is trusted already; nothing was changed")
                return
            fail(
                "this site trusts another coordinator, or other keys of it. If that is to end, and "
                "you know why, give --replace; runs that are under way stop being answered."
            )
        require_compared(public, fingerprint)
        told = {"name": public.name, "fingerprint": public.fingerprint}
        site.log.append("trusted", reason="by_hand", details={**told})
        listen_to(site, public)
    out.print(f"{public.name} is trusted, and nobody else")


@app.command()
def pause(folder: Folder = HERE) -> None:
    """Let nothing out from now on. What is asked waits in the mailbox.

    Example: `fedloom site pause`
    """
    from fedcore.sites.status import pause as stop

    _decide(folder, stop)
    out.print("paused: nothing leaves")


@app.command()
def resume(folder: Folder = HERE) -> None:
    """Let the policy decide again what leaves; a new site is paused until then.

    Example: `fedloom site resume`
    """
    from fedcore.sites.policy import PolicyError
    from fedcore.sites.policy_words import explain
    from fedcore.sites.status import resume as go_on

    with reasons_for(PolicyError):
        first = explain(opened(folder).policy)[0]
    _decide(folder, go_on)
    out.print("running")
    out.print(first, soft_wrap=True)


@app.command(cls=Command)
def withdraw(run: Run, folder: Folder = HERE) -> None:
    """Let nothing out for this run any more. It cannot be taken back.

    What left before is gone: ask the coordinator to drop the site and start anew without it.

    Example: `fedloom site withdraw 1c0076ac-5f0e-4b0f-8f5e-1f0c7a2e9d11`
    """
    from fedcore.sites.status import withdraw as leave

    _decide(folder, lambda path, log: leave(path, log, run))
    out.print(f"{run}: withdrawn; nothing leaves for it any more")


@app.command(cls=Command)
def approve(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    folder: Folder = HERE,
) -> None:
    """Let a run be answered as the policy says: exactly this plan, by exactly this program.

    Shows all that the run's results depend on first. A run whose plan or program changes later
    asks again.

    Example: `fedloom site approve 1c0076ac-5f0e-4b0f-8f5e-1f0c7a2e9d11`
    """
    from deployments.cli.site_words import program_words, settings_words
    from fedcore.sites.policy import ByRule, PolicyError
    from fedcore.sites.requested import RequestError, read_requested, why_not
    from fedcore.sites.status import Approved, StatusError, read_status
    from fedcore.sites.status import approve as allow

    site = opened(folder)
    with reasons_for(RequestError, PolicyError, StatusError):
        asked, policy = read_requested(site, run), site.policy
        status = read_status(site.status_file)
    if isinstance(policy.approval, ByRule):
        fail(
            "approval.kind=by_rule in policy.yaml: a person's approval changes nothing. Name the "
            f"program in approval.code ({asked.code}), or set approval: {{kind: by_hand}}."
        )
    approved = Approved(run, asked.plan, asked.code)
    if run not in status.withdrawn:
        print(settings_words(asked.config))
        out.print(f"plan  {asked.plan}", soft_wrap=True)
        out.print(f"code  {asked.code}  {program_words(asked.code)}", soft_wrap=True)
        after = replace(status, approved=(*status.approved, approved))
        if stays := why_not(policy, after, asked):
            out.print(f"Even once approved, nothing leaves: {stays.reason}", soft_wrap=True)
        if not yes and not typer.confirm("Approve this plan by this program?"):
            fail("not approved; nothing was changed.")
    _decide(folder, lambda path, log: allow(path, log, approved))
    out.print(f"{run}: approved")


def _decide(folder: Path, change: Callable[[Path, AuditLog], SiteStatus]) -> None:
    """Ends the command with the reason, and with what holds in spite of it."""
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.status import StatusError, read_status

    site = opened(folder, reads=False)
    try:
        change(site.status_file, site.log)
    except StatusError as error:
        fail(error)
    except (LogBroken, OSError) as error:
        with reasons_for(StatusError):
            status = read_status(site.status_file)
        fail(f"{error}\nWhat holds now: {status.state}, withdrawn: {list(status.withdrawn)}.")
