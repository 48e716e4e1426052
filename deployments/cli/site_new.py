"""``fedloom site init``: a new site's folder, every key in it explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.config import Overrides
from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.sites.folder import SiteSettings

SITE_HEAD = """\
# What this site is. Written by `fedloom site init`; `fedloom site status` says whether it is valid.

"""
POLICY_HEAD = """\
# What may leave this site. Everything that is not allowed here stays, and this file allows nothing.
# `fedloom site policy` tells in sentences what it allows; each answer follows it as it is then.
#
# To take part in runs of one purpose, each approved by a person here, with rounded figures:
#
#   runs: ["*"]
#   purposes: [heart-disease]
#   jobs: [audit, prepare, train, evaluate]
#   metrics: {kind: rounded, decimals: 2}

"""


def init(
    name: Annotated[str, typer.Argument(help="The site's name, by which runs know it.")],
    mailbox: Annotated[
        str, typer.Option(help="Folder or URL where the coordinator is met: `s3://bucket/prefix`.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="KIND|FILE",
            help="Source of the site's own rows: a kind such as `table`, or a YAML file with a "
            "`data:` section or its content.",
        ),
    ],
    data_folder: Annotated[
        Path | None,
        typer.Option(envvar="FEDLOOM_DATA", help="Where the data files are."),
    ] = None,
    api: Annotated[
        str, typer.Option(help="URL of the coordinator's API; may be written into site.yaml later.")
    ] = "",
    override: Overrides = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", envvar="FEDLOOM_SITE", help="New or empty folder; by default ./NAME."
        ),
    ] = None,
) -> None:
    """Make a site's folder: fresh keys, its settings, and a policy that lets out nothing yet.

    `public.json` in it is for the coordinator. Nothing that is there is overwritten.

    Examples:

        fedloom site init north --mailbox s3://federation/north --data table

        fedloom site init north --mailbox /mnt/mailbox --data own.yaml --data-folder /srv/data
    """
    from deployments.cli.template import CHANGE_ME, commented_yaml
    from fedcore.sites.folder import SiteError, make_site
    from fedcore.sites.policy import Policy

    settings = _settings(name, mailbox, api, data, data_folder, override or [])
    path = (folder or Path(name)).absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        fail(f"{path} holds something already, and nothing is overwritten. Name a new folder.")
    text = SITE_HEAD + commented_yaml(settings)
    with reasons_for(SiteError, OSError):
        site = make_site(path, settings, POLICY_HEAD + commented_yaml(Policy()))
        (path / "site.yaml").write_text(text, encoding="utf-8")
        public = site.identity.public
        (path / "public.json").write_text(json.dumps(public.to_json(), indent=2) + "\n")
    out.print(f"site         {name}, in {path}", soft_wrap=True)
    out.print(f"fingerprint  {public.fingerprint}")
    out.print("For the coordinator: public.json; read the fingerprint out to them.")
    first = f"put your own names for {CHANGE_ME} in site.yaml; " if CHANGE_ME in text else ""
    out.print(
        f"Next: {first}say in policy.yaml what may leave; fedloom site trust FILE with the "
        "coordinator's identity. The site is paused until fedloom site resume.",
        soft_wrap=True,
    )


def _settings(
    name: str, mailbox: str, api: str, data: str, data_folder: Path | None, pairs: list[str]
) -> SiteSettings:
    """Ends the command when they are not valid."""
    from pydantic import ValidationError

    from deployments.cli.template import say_how_to_give
    from fedcore.config import ConfigError
    from fedcore.config_errors import explain
    from fedcore.sites.folder import SiteSettings

    try:
        return SiteSettings.model_validate(
            {
                "name": name,
                "data": _data(data, pairs),
                # The worker may start anywhere.
                "folder": str(data_folder.absolute()) if data_folder else "",
                "api": api,
                "mailbox": mailbox if "://" in mailbox else str(Path(mailbox).absolute()),
            }
        )
    except ConfigError as error:
        fail(say_how_to_give(str(error)))
    except ValidationError as error:
        fail("\n".join(explain(SiteSettings, one) for one in error.errors()))


def _data(data: str, pairs: list[str]) -> Any:
    """The settings of the data source; raises ConfigError."""
    import yaml

    from deployments.cli.template import with_placeholders
    from fedcore.config import ConfigError, make_config, parse_overrides
    from fedcore.strict_yaml import StrictLoader

    overrides = parse_overrides(pairs)
    if others := sorted(key for key in overrides if not key.startswith("data.")):
        raise ConfigError(f"override {others[0]!r}: here only keys of data have a place: data.KEY.")
    if not Path(data).suffix:
        given = with_placeholders({"data.kind": data, **overrides})
        return make_config({}, given, source=f"--data {data}").data
    try:
        values = yaml.load(Path(data).read_text(encoding="utf-8"), StrictLoader)
    except OSError as error:
        raise ConfigError(f"{data} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{data} is not valid YAML: {error}") from error
    section = values.get("data", values) if isinstance(values, dict) else values
    return make_config({"data": section}, overrides, source=data).data
