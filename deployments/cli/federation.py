"""``fedloom federation``: the shipped example, four hospitals with a worker each."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.stack import ensure_up

if TYPE_CHECKING:
    from fedcore.sites.folder import SiteFolder

app = typer.Typer(
    no_args_is_help=True,
    help="The example of a real federation: four hospitals, each with its own folder, its own rows "
    "and its own worker, beside the coordinator's stack on this machine.",
)

DEPLOYMENT = "train-federated/heart-disease-sites"
SITES = ("cleveland", "hungary", "switzerland", "va")
PURPOSE = "heart-disease-sites"


@app.command()
def up() -> None:
    """Start the stack and the four hospitals' workers; what is there already is kept.

    It ends with the command that starts a run over them.

    Example: `fedloom federation up`
    """
    from deployments.registration import register
    from deployments.site import keep
    from deployments.stack.lifecycle import bring_down
    from deployments.stack.recovery import processes_of_runs
    from deployments.stack.stack import stack_home
    from deployments.stack.supervision import service_states
    from fedcore.data.checksum import ChecksumMismatch
    from fedcore.data.download import DataNotFound
    from fedcore.sites.folder import write_settings

    folder = stack_home() / "federation"
    with reasons_for(DataNotFound, ChecksumMismatch):
        sites = [ensure_site(folder / name, name) for name in SITES]
    stack = ensure_up()
    if not stack.gateway_port:  # it was up before there was a token
        if processes_of_runs(stack.home):
            fail(
                "A run is under way on this stack, which was started before there were sites and "
                "has to start again with their gateway. Wait for the run, or pause it; then "
                "fedloom federation up again."
            )
        out.print("The stack starts again, with the gateway of sites")
        bring_down(stack.home)
        stack = ensure_up()
    for site in sites:
        write_settings(site, site.settings.model_copy(update={"api": stack.gateway_url}))
    register(stack)
    if service_states(folder):  # with what is installed now, and the data
        keep.end(folder)
    keep.start(folder, sites)
    for site in sites:
        out.print(f"{site.settings.name}: worker started, folder {site.path}", soft_wrap=True)
    out.print(f"Prefect: {stack.prefect_ui_url}")
    fedloom, prefect = (programs() / name for name in ("fedloom", "prefect"))
    out.print("A run over the four:")
    out.print(
        f'eval "$({fedloom} stack env)" && {prefect} deployment run {DEPLOYMENT}', soft_wrap=True
    )


@app.command()
def down() -> None:
    """End the four workers; folders, keys and logs stay. The stack stays up: `fedloom stack down`.

    Example: `fedloom federation down`
    """
    from deployments.site import keep
    from deployments.stack.stack import stack_home
    from deployments.stack.supervision import service_states

    folder = stack_home() / "federation"
    if not service_states(folder):
        fail("No federation runs here; `fedloom federation up` starts one.")
    keep.end(folder)
    out.print("The hospitals' workers have ended.")


@app.command()
def status() -> None:
    """What of the four workers is running.

    Example: `fedloom federation status`
    """
    from deployments.stack.stack import stack_home
    from deployments.stack.supervision import service_states

    states = service_states(stack_home() / "federation")
    for name in SITES:
        state = states.get(name, {})
        out.print(f"{name}: {str(state.get('statename', 'not running')).lower()}")


def ensure_site(path: Path, name: str) -> SiteFolder:
    """A hospital's folder with its own file alone; registered, trusted, with a token, and with a
    policy that answers this example's runs by the program that is installed here.

    Raises:
      DataNotFound, ChecksumMismatch: the hospital's file is not there and cannot be fetched.
    """
    from deployments.gateway.tokens import Tokens, tokens_file
    from deployments.stack.credentials import write_secret
    from fedcore.data.heart import HOSPITALS, HeartDisease
    from fedcore.sites.coordinator import Coordinator
    from fedcore.sites.folder import SiteFolder, SiteSettings, make_site, trust
    from fedcore.sites.status import resume
    from tasks import home

    coordinator = Coordinator(home.coordinator())
    settings = SiteSettings(
        name=name,
        data=HeartDisease(hospitals=(name,)),  # type: ignore[arg-type]
        folder=str(path / "data"),
        mailbox=str(home.home() / "mailbox"),
    )
    (file,) = (one.file for one in HOSPITALS if one.owner == name)
    found = home.data_folder()
    target = path / "data" / "heart" / file
    if found and (found / "heart" / file).exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found / "heart" / file, target)
    settings.data.load(path / "data")  # fetched where it is not there yet: now, not in a run
    site = SiteFolder(path)
    if not (path / "identity.json").exists():
        site = make_site(path, settings, policy_text())
        trust(site, coordinator.identity.public)
        resume(site.status_file, site.log)
    (path / "policy.yaml").write_text(policy_text())
    tokens = Tokens(tokens_file(home.home()))
    if name not in tokens.hashes() or not site.token:
        write_secret(path / "token", tokens.issue(name))
    if name not in coordinator.registry.sites():
        coordinator.registry.register(site.identity.public, most_examples=1000)
    return site


def programs() -> Path:
    """Where the installed commands are, as one may write it here."""
    folder = Path(sys.executable).parent
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def policy_text() -> str:
    """What the example's hospitals let out."""
    from fedcore.numerics import code_digest

    return (
        "# The example's policy: fedloom site init writes one with every choice explained.\n"
        f'runs: ["*"]\npurposes: [{PURPOSE}]\n'
        "jobs: [audit, prepare, train, evaluate, statistics]\n"
        f"approval: {{kind: by_rule, code: [{code_digest()}]}}\n"
        "minimum_examples: 10\n"
        "# Switzerland has one healthy patient among its training rows: counts of one leave here,\n"
        "# as they are published. A hospital of your own keeps the default of 10.\n"
        "minimum_group: 1\n"
        "rounds_per_day: 10000\n"
        "metrics: {kind: rounded, decimals: 4}\n"
        'statistics: ["*"]\n'
    )
