"""Where this process keeps its state, from its environment: the folder, the store, the data."""

from __future__ import annotations

import os
from pathlib import Path

from fedcore.event_log import EventLog
from fedcore.store import Store


def home() -> Path:
    """``FEDLOOM_HOME``, by default ``.fedloom`` in the working folder; absolute."""
    return Path(os.environ.get("FEDLOOM_HOME") or ".fedloom").absolute()


def store() -> Store:
    """The store of this home, or the one at the URL in ``FEDLOOM_STORE``."""
    return Store(os.environ.get("FEDLOOM_STORE") or home() / "store")


def cache() -> Path:
    """Features of frozen backbones and tokens of texts; they never leave this machine."""
    return home() / "cache"


def privacy() -> Path:
    """Secret and ledger of the data that are here."""
    return home() / "privacy"


def coordinator() -> Path:
    """The coordinator's keys and the sites that it knows."""
    return home() / "coordinator"


def data_folder() -> Path | None:
    """``FEDLOOM_DATA``: the folder of downloaded data sets, if it is set."""
    folder = os.environ.get("FEDLOOM_DATA")
    return Path(folder) if folder else None


def event_log(folder: Path | None = None) -> EventLog:
    """The log at the URL in ``FEDLOOM_EVENTS``, or ``events.db`` in the folder (this home)."""
    return EventLog(
        os.environ.get("FEDLOOM_EVENTS") or f"sqlite:///{(folder or home()) / 'events.db'}"
    )


def spool(folder: Path | None = None) -> Path:
    """Events on their way to the log."""
    return (folder or home()) / "events.spool"
