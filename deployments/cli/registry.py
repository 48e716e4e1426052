"""``fedloom report``, ``lineage``, ``promote``, ``export``: what is done with model versions."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.in_process import IN_PROCESS
from deployments.cli.screen import fail, out, reasons_for
from deployments.stack.stack import stack_home

Version = Annotated[
    str,
    typer.Argument(metavar="MODEL_VERSION", help="`NAME/3`, `NAME@challenger` or `NAME@champion`."),
]


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else the stack of this home, else its database file.

    Ends the command when there is none of them: MLflow would make an empty database to read from.
    """
    from deployments.stack.lifecycle import running_stack

    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    if stack := running_stack(stack_home()):
        return stack.mlflow_url
    database = stack_home() / "mlflow" / "mlflow.db"
    if not database.exists():
        fail(
            f"No stack runs in {stack_home()}, and no run was ever logged there. Set FEDLOOM_HOME "
            "or MLFLOW_TRACKING_URI, or start a stack: fedloom stack up"
        )
    return f"sqlite:///{database}"


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, Fedloom's or MLflow's.")],
    raw: Annotated[bool, typer.Option(help="Markdown with its pictures, for a file.")] = False,
) -> None:
    """The report of a finished run: settings, rounds, clients, audit.

    Examples:

        fedloom report 1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124

        fedloom report 1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124 --raw > report.md
    """
    import re

    from rich.markdown import Markdown

    from tasks.registry.connection import RegistryUnavailable
    from tasks.registry.lineage import report as read_report

    if run.startswith(IN_PROCESS):
        fail(
            f"{run} ran in process; such runs are not logged in MLflow and have no report. "
            "Without --in-process, `fedloom run` logs one, with the same final digest."
        )
    with reasons_for(RegistryUnavailable, LookupError, ValueError):
        text = read_report(tracking_uri(), run)
    if raw or not out.is_terminal:
        print(text)
    else:
        # Pictures are inside as data: links, which a terminal cannot show.
        out.print(Markdown(re.sub(r"!\[([^\]]*)\]\(data:[^)]*\)", r"*picture: \1*", text)))


def lineage(version: Version) -> None:
    """Where a model version came from, each link checked by digest.

    The exit code is 1 when a link does not hold.

    Example: `fedloom lineage fedloom-digits@challenger`
    """
    from tasks.registry.connection import RegistryUnavailable
    from tasks.registry.lineage import lineage as trace

    with reasons_for(RegistryUnavailable, LookupError, ValueError):
        found = trace(tracking_uri(), version)
    print(found)
    if found.problems:
        raise typer.Exit(1)


def export(
    version: Version,
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="One whole checkpoint, adapters in its weights.")
    ] = False,
) -> None:
    """The adapters of a version for PEFT, or a whole checkpoint for `transformers`.

    The folder's README.md has the lines that load it.

    Examples:

        fedloom export fedloom-medical-abstracts@champion adapter

        fedloom export fedloom-medical-abstracts/3 merged --merged
    """
    from tasks.registry.connection import RegistryUnavailable
    from tasks.registry.export_version import export_version

    with reasons_for(RegistryUnavailable, LookupError, ValueError):
        export_version(tracking_uri(), version, folder, merged=merged)
    out.print(f"{folder}/README.md says how to load it.", soft_wrap=True)


def promote(
    version: Version,
    why: Annotated[str, typer.Option(help="The reason, for those who ask later.")],
    who: Annotated[
        str, typer.Option(help="Who decides; by default the user who is logged in.")
    ] = "",
) -> None:
    """Make a version the `champion`, with who decided it and why.

    Example: `fedloom promote fedloom-digits@challenger --who 'A. Smith' --why 'better everywhere'`
    """
    from tasks.registry.connection import RegistryUnavailable
    from tasks.registry.promote import promote as make_champion

    with reasons_for(RegistryUnavailable, LookupError, ValueError):
        chosen = make_champion(tracking_uri(), version, who=who or getpass.getuser(), why=why)
    out.print(f"{chosen} is the champion now.")
