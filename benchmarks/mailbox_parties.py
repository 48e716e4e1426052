"""A coordinator and tiny sites as threads for the mailbox benchmark, and who asked when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedcore.chain import RoundRecord
from fedcore.config import make_config
from fedcore.data.arrays import Arrays
from fedcore.data.settings import DataSettings
from fedcore.engines.sites import SitesEngine
from fedcore.execute import execute
from fedcore.numerics import code_digest
from fedcore.rounds import run_rounds
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.folder import SiteFolder, SiteSettings, make_site, trust
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.outgoing import Released
from fedcore.sites.run import begin_over_sites, invite
from fedcore.sites.session import Session, attend
from fedcore.sites.status import resume
from fedcore.store import Store

ROWS, COLUMNS, MOST_EXAMPLES = 60, 4, 10_000
POLICY = f"""
runs: ["*"]
purposes: ["*"]
jobs: [audit, prepare, train, evaluate]
approval: {{kind: by_rule, code: ["{code_digest()}"]}}
minimum_examples: 1
minimum_group: 1
rounds_per_day: 100000
metrics: {{kind: exact}}
"""
DATA = Arrays(path="own.npz", task="binary", inputs="x", targets="y", split="split", owner="owner")


@dataclass(frozen=True)
class Parties:
    """All that take part in a run, in one process."""

    coordinator: Coordinator
    sites: dict[str, SiteFolder]
    store: Store
    mailbox: Mailbox


def make_parties(folder: Path, url: str, names: Sequence[str]) -> Parties:
    """Sites with 60 rows of 4 numbers each, that answer whatever this code asks."""
    data = {}
    for number, name in enumerate(names):
        rng, rows = np.random.default_rng(number), folder / "rows" / name
        rows.mkdir(parents=True)
        x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
        y = (x[:, 0] + 0.3 * rng.normal(size=ROWS) > 0).astype(np.int64)
        split = np.resize(np.repeat(["train", "val", "test"], [6, 2, 2]), ROWS)
        np.savez(rows / "own.npz", x=x, y=y, split=split, owner=np.full(ROWS, name))
        data[name] = (DATA, rows)
    return acquaint(folder, url, data)


def acquaint(
    folder: Path,
    url: str,
    data: Mapping[str, tuple[DataSettings, Path]],
    policy: str = POLICY,
) -> Parties:
    """A coordinator and sites that know each other, each in a folder of its own.

    Args:
      url: of the mailbox.
      data: site -> settings and folder of its rows.
      policy: of every site.
    """
    coordinator, sites = Coordinator(folder / "coordinator"), {}
    for name, (settings, rows) in data.items():
        own = SiteSettings(name=name, data=settings, folder=str(rows), mailbox=url)
        site = make_site(folder / "sites" / name, own, policy)
        trust(site, coordinator.identity.public)
        coordinator.registry.register(site.identity.public, most_examples=MOST_EXAMPLES)
        resume(site.status_file, site.log)
        sites[name] = site
    return Parties(coordinator, sites, Store(folder / "store"), Mailbox(Store(url)))


@dataclass
class Trace:
    """What was asked of the mailbox and what sites began, with the seconds at which it was done."""

    requests: list[tuple[float, str, str]] = field(default_factory=list)
    starts: list[tuple[float, str]] = field(default_factory=list)
    slow: float = 0.0

    def count(self, folder: str, since: float) -> int:
        """Requests for names under a folder since a time."""
        return sum(at >= since and name.startswith(folder) for at, _, name in self.requests)

    def posted(self, folder: str) -> list[float]:
        """When something was left under a folder."""
        return [at for at, did, name in self.requests if did == "post" and name.startswith(folder)]

    def working(self, job: Any, store: Store, cache: Path, owner: Any) -> Any:
        """A site's work; slower by ``slow`` seconds."""
        self.starts.append((time.monotonic(), job.client))
        time.sleep(self.slow)
        return execute(job, store, cache, owner)


@contextmanager
def traced() -> Iterator[Trace]:
    """Records what all parties ask of their mailboxes, until the block ends."""
    trace, kept = Trace(), {}

    def recorded(name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def call(mailbox: Mailbox, *args: Any) -> Any:
            result = does(mailbox, *args)
            trace.requests.append((time.monotonic(), name, args[0] if args else ""))
            return result

        return call

    for name in ("read", "post", "holds", "remove"):
        kept[name] = getattr(Mailbox, name)
        setattr(Mailbox, name, recorded(name, kept[name]))
    try:
        yield trace
    finally:
        for name, does in kept.items():
            setattr(Mailbox, name, does)


class Mole(Session):
    """A registered site that answers every request for an update with something bad."""

    def _leave(self, said: Announcement, released: Released) -> None:
        if said.ask is not Ask.TRAIN:
            super()._leave(said, released)
            return
        inbox, bad = self._inbox, os.urandom(said.round * 997 % 70_000)
        inbox.mailbox.post(inbox.lane.reply(said.key, said.attempt), bad)


@contextmanager
def attended(sessions: Sequence[Session]) -> Iterator[None]:
    """Each session in a thread of its own, until the block ends."""
    done = threading.Event()
    threads = [
        threading.Thread(target=attend, args=((session,), done.is_set), daemon=True)
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(60)


@contextmanager
def running(
    parties: Parties, run: str, rounds: int, refused: Callable[[str], None], honest: int
) -> Iterator[Iterator[RoundRecord]]:
    """The rounds of a run, begun; the run is closed when the block ends."""
    config = make_config(
        {
            "data": DATA.model_dump(mode="json"),
            "partition": {"kind": "by_owner"},
            "model": {"kind": "logistic"},
            "training": {"kind": "loop", "batch_size": 8, "learning_rate": 0.05},
            "rounds": {"count": rounds, "min_clients": honest},
            "evaluation": {"every": rounds, "splits": ["test"]},
            "engine": {
                "kind": "sites",
                "limit_seconds": 300,
                "join_seconds": 300,
                "deadline_seconds": 300,
                "quarantine": 10**6,  # who sends bad updates goes on doing so
            },
        }
    )
    invitation = invite(config, parties.coordinator, parties.mailbox, run)
    plan, chain = begin_over_sites(config, invitation, parties.store, run, lambda message: None)
    engine: SitesEngine = invitation.engine(plan, parties.store, lambda message: None)
    engine.refused = lambda site, refusal, job: refused(str(refusal.reason))
    try:
        yield run_rounds(plan, chain, engine, lambda event: None)
    finally:
        invitation.close()
