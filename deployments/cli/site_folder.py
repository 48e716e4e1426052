"""The site's folder that a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import reasons_for

if TYPE_CHECKING:
    from fedcore.sites.folder import SiteFolder

Folder = Annotated[
    Path, typer.Option(metavar="DIR", envvar="FEDLOOM_SITE", help="The site's folder.")
]
HERE = Path(".")


def opened(folder: Path, *, reads: bool = True) -> SiteFolder:
    """The site in a folder; ends the command when there is none.

    Args:
      reads: False where a mistake in site.yaml must not stand in the way.
    """
    from fedcore.sites.folder import SiteError, SiteFolder

    site = SiteFolder(folder.absolute())
    if reads or not (site.path / "identity.json").is_file():
        with reasons_for(SiteError):
            _ = site.settings
    return site
