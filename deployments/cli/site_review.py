"""``fedloom site status``, ``policy`` and ``preview``: what leaves a site, and what would."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.site_folder import HERE, Folder, opened

if TYPE_CHECKING:
    from fedcore.sites.folder import SiteFolder
    from fedcore.sites.outgoing import Preview
    from fedcore.sites.policy import Policy
    from fedcore.sites.status import SiteStatus


class Wish(StrEnum):
    """What to do with the policy."""

    EXPLAIN = "explain"
    CHECK = "check"


def status(folder: Folder = HERE) -> None:
    """Whether the site takes part, what its runs ask for, and what left today.

    The exit code is 1 where something must be mended before anything leaves.

    Example: `fedloom site status --folder /srv/fedloom/north`
    """
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.policy import PolicyError
    from fedcore.sites.status import StatusError, read_status

    site = opened(folder)
    problems = []
    try:
        now = read_status(site.status_file)
        paused = ": nothing leaves; `fedloom site resume` ends that" * (now.state == "paused")
        out.print(f"{site.settings.name} is {now.state}{paused}", soft_wrap=True)
        if not (site.path / "coordinator.json").exists():
            out.print("The site listens to nobody yet: `fedloom site trust FILE`.")
        _runs(site, site.policy, now)
    except (StatusError, PolicyError) as error:
        problems.append(str(error))
    try:
        _today(site)
    except (LogBroken, OSError) as error:
        problems.append(str(error))
    if problems:
        fail("\n".join(problems))


def policy(
    wish: Annotated[
        Wish, typer.Argument(metavar="[check]", help="Only whether the file is valid.")
    ] = Wish.EXPLAIN,
    folder: Folder = HERE,
) -> None:
    """What may leave, in sentences. `check` says only whether the file is valid.

    Examples:

        fedloom site policy

        fedloom site policy check
    """
    from fedcore.sites.policy import PolicyError
    from fedcore.sites.policy_words import explain

    site = opened(folder, reads=False)
    with reasons_for(PolicyError):
        found = site.policy
    if wish is Wish.CHECK:
        out.print(f"policy.yaml is valid; its digest in the log is {found.digest}", soft_wrap=True)
        return
    for sentence in explain(found):
        out.print(sentence, soft_wrap=True, markup=False)


def preview(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="YAML file of a run: one update and one evaluation are worked out too.",
        ),
    ] = None,
    run: Annotated[str, typer.Option(help="Id that the run will have, for the policy.")] = (
        "preview"
    ),
    folder: Folder = HERE,
) -> None:
    """What would leave of this site's rows, by name and bytes, once the policy has seen it.

    Nothing leaves and nothing is counted; the log says that somebody looked.

    Examples:

        fedloom site preview

        fedloom site preview heart.yaml
    """
    from fedcore.config import ConfigError, RunConfig, load_config
    from fedcore.sites.audit_entry import LogBroken
    from fedcore.sites.gate import open_gate
    from fedcore.sites.identity import IdentityError
    from fedcore.sites.rehearsal import rehearse

    site = opened(folder)
    with reasons_for(ConfigError):
        config = load_config(file) if file else RunConfig()
    with reasons_for(ValueError, RuntimeError, LookupError, OSError, LogBroken, IdentityError):
        gate = open_gate(site)
        for asked, value in rehearse(site, config, run, trains=file is not None):
            _show(asked.kind, gate.preview(asked, value))


def _show(kind: str, found: Preview) -> None:
    from fedcore.report.words import size

    print(f"{kind}: {size(found.bytes) if found.fields else 'nothing'}")
    width = max((len(name) for name, _, _ in found.fields), default=0)
    for name, num_bytes, what in found.fields:
        print(f"  {name:<{width}}  {size(num_bytes):>8}  {what}")
    for change in found.changes:
        print(f"  first: {change}")
    if found.withheld:
        print(f"  It stays, as things are now ({found.withheld.code}): {found.withheld.reason}")


def _runs(site: SiteFolder, policy: Policy, now: SiteStatus) -> None:
    from deployments.cli.site_words import asking_words
    from fedcore.sites.codes import Code
    from fedcore.sites.requested import RequestError, read_requested, requested_runs, why_not

    known = {*requested_runs(site), *now.withdrawn, *(one.run for one in now.approved)}
    for run in sorted(known):
        if run in now.withdrawn:
            print(f"  {run}  withdrawn")
            continue
        try:
            asked = read_requested(site, run)
        except RequestError as error:
            print(f"  {run}  {error}")
            continue
        stays = why_not(policy, now, asked)
        if stays is None:
            print(f"  {run}  approved")
        elif stays.code is Code.NOT_APPROVED:
            print(f"  {run}  asks for approval")
            for line in asking_words(asked, site.path):
                print(f"      {line}")
        else:
            print(f"  {run}  {stays.reason}")


def _today(site: SiteFolder) -> None:
    from fedcore.report.words import size
    from fedcore.sites.departed import departed

    day = datetime.now(UTC).date().isoformat()
    left = departed(site.log.entries(), day)
    print(
        f"Left today ({day}, UTC): answers {left.answers}, in rounds {left.rounds}, refusals "
        f"{left.excuses}, together {size(left.bytes)}"
    )
