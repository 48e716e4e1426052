"""``fedloom init-config`` and ``fedloom validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        "-o",
        "-p",
        metavar="KEY=VALUE",
        help="Another value by dotted key, as often as needed: `-o rounds.count=3`.",
    ),
]


def init_config(
    file: Annotated[Path, typer.Argument(help="YAML file to write; `-` prints it.")] = Path("-"),
    override: Overrides = None,
    force: Annotated[bool, typer.Option(help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a complete configuration to start from, every choice with its meaning.

    Examples:

        fedloom init-config my.yaml

        fedloom init-config my.yaml -o data.kind=heart_disease -o partition.kind=by_owner

        fedloom init-config my.yaml -o data.kind=table -o data.path=admissions.csv
    """
    from deployments.cli.template import (
        CHANGE_ME,
        commented_yaml,
        say_how_to_give,
        with_placeholders,
    )
    from fedcore.config import ConfigError, make_config, parse_overrides

    try:
        overrides = with_placeholders(parse_overrides(override or []))
        text = commented_yaml(make_config({"name": "my-run"}, overrides))
    except ConfigError as error:
        fail(say_how_to_give(str(error)))
    if str(file) == "-":
        print(text, end="")
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        fail(f"{file} is there already. Name another file, or overwrite it with --force.")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.")
    first = f"put your own names for {CHANGE_ME}, then " if CHANGE_ME in text else ""
    out.print(f"{file} written. Next: {first}fedloom validate {file}, then fedloom run {file}")


def validate(
    file: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    override: Overrides = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the digest.")] = False,
) -> None:
    """Check a configuration and show it with all its defaults.

    The digest names the run: it is on the flow run in Prefect and on the version in MLflow.

    Examples:

        fedloom validate my.yaml

        fedloom validate my.yaml -o strategy.kind=fedprox -o strategy.mu=0.1
    """
    from fedcore.config import ConfigError, load_config, parse_overrides

    with reasons_for(ConfigError):
        config = load_config(file, parse_overrides(override or []))
    if not quiet:
        print(config.to_yaml())
    print(f"config digest {config.digest}")
