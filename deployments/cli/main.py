"""``fedloom``: the commands, one file per group."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli import (
    alerts,
    approve,
    care,
    config,
    controls,
    events,
    federation,
    gateway,
    privacy,
    registry,
    run,
    site,
    sites,
    stack,
    store,
)
from deployments.cli.command import Command

app = typer.Typer(
    name="fedloom",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # a local may hold data
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="State lies under `$FEDLOOM_HOME` (default `.fedloom` in the working folder); data sets "
    "are looked for under `$FEDLOOM_DATA` first.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("fedloom"))
        raise typer.Exit


@app.callback()
def fedloom(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Release.")
    ] = False,
) -> None:
    """Federated learning as Prefect flows: audit, partition, train, review.

    A first run: `fedloom demo`. Your own: `fedloom init-config my.yaml`, edit, `fedloom validate
    my.yaml`, `fedloom run my.yaml`.
    """


app.command("demo", cls=Command, rich_help_panel="Run")(run.demo)
app.command("run", cls=Command, rich_help_panel="Run")(run.run)
app.command("approve", cls=Command, rich_help_panel="Run")(approve.approve)
app.command("follow", cls=Command, rich_help_panel="Run")(run.follow)
app.command("pause", cls=Command, rich_help_panel="Run")(controls.pause)
app.command("cancel", cls=Command, rich_help_panel="Run")(controls.cancel)
app.command("events", cls=Command, rich_help_panel="Run")(events.events)
app.command("deploy", cls=Command, rich_help_panel="Run")(run.deploy)
app.command("init-config", cls=Command, rich_help_panel="Configure")(config.init_config)
app.command("validate", cls=Command, rich_help_panel="Configure")(config.validate)
app.command("preflight", cls=Command, rich_help_panel="Configure")(care.preflight)
app.command("report", cls=Command, rich_help_panel="Review")(registry.report)
app.command("lineage", cls=Command, rich_help_panel="Review")(registry.lineage)
app.command("privacy", cls=Command, rich_help_panel="Review")(privacy.privacy)
app.command("export", cls=Command, rich_help_panel="Review")(registry.export)
app.command("promote", cls=Command, rich_help_panel="Review")(registry.promote)
app.command("alerts", cls=Command, rich_help_panel="Operate")(alerts.alerts)
app.command("backup", cls=Command, rich_help_panel="Operate")(care.backup)
app.command("restore", cls=Command, rich_help_panel="Operate")(care.restore)
app.add_typer(stack.app, name="stack", rich_help_panel="Operate")
app.add_typer(store.app, name="store", rich_help_panel="Operate")
app.add_typer(site.app, name="site", rich_help_panel="Sites")
app.add_typer(sites.app, name="sites", rich_help_panel="Sites")
app.add_typer(gateway.app, name="gateway", rich_help_panel="Sites")
app.add_typer(federation.app, name="federation", rich_help_panel="Sites")
