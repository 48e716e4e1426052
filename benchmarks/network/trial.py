"""A run of the four hospitals, each in a network namespace of its own, while links fail."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.control import Control
from benchmarks.network.disorder import disorder
from benchmarks.network.entrance import API, STORE, Stores, entrance
from benchmarks.network.links import Link, linked
from benchmarks.s3_server import environment, make_bucket, s3_server
from deployments.cli.federation import DEPLOYMENT, SITES, ensure_site
from deployments.registration import register
from deployments.site import keep
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.stack import Stack
from deployments.stack.supervision import last_lines
from fedcore.chain import Chain, RoundRecord
from fedcore.sites.folder import SiteFolder, write_settings
from fedcore.store import Store

CUT, SLOW, DISORDERED = "hungary", "switzerland", "va"
PARTED = "cleveland"  # its link is cut before the last round, and mended once the run is over
DELAY_SECONDS, BYTES_A_SECOND = 0.15, 125_000
CUT_AFTER, CUT_FOR = 2, 2  # rounds
LEAST_ROUNDS = CUT_AFTER + CUT_FOR + 3
MAILBOX = "s3://mailbox"
LIMIT_SECONDS, PARTING_SECONDS = 600.0, 90.0
OVER = {"Completed", "Cancelled"}
ENDED = {*OVER, "Failed", "Crashed"}


@dataclass
class Trial:
    """What was seen.

    Attributes:
      connections: attempts, and whether they succeeded.
      state: the run's, in the end.
      rounds: for each, the seconds it took, whether the link was cut, and site -> what it did.
      disorder: what was done to how many objects of the site's mailbox.
      sessions: site -> state of its session when the run was over.
      seconds: of the run.
      logs: the sites' own, where something went wrong.
    """

    connections: dict[str, bool] = field(default_factory=dict)
    state: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    disorder: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    logs: str = ""

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty when nothing did."""
        reached = [way for way, succeeded in self.connections.items() if succeeded]
        into = [way for way in reached if "no firewall" in way]
        after = self.rounds[CUT_AFTER + CUT_FOR :]
        cut = [one for one in self.rounds if one["cut"]]
        few = [
            one["round"]
            for one in self.rounds
            if sum(did == "done" for did in one["sites"].values()) < 3
        ]
        return [
            *([f"the run is {self.state}"] if self.state != "Completed" else []),
            *([] if into else ["no attempt succeeded without a firewall: they show nothing"]),
            *(f"connected: {way}" for way in reached if way not in into),
            *([f"rounds {few} have fewer than three updates"] if few else []),
            *(["the cut link let something pass"] if any(_done(one) for one in cut) else []),
            *([f"{CUT} did not come back"] if not any(_done(one) for one in after) else []),
            *(f"{site}'s session is {s}" for site, s in self.sessions.items() if s not in OVER),
        ]


def _done(one: dict[str, Any]) -> bool:
    return bool(one["sites"][CUT] == "done")


def trial(folder: Path, rounds: int, seed: int) -> Trial:
    """One run; a stack, an object store, a proxy and four namespaces of its own, all ended after.

    Args:
      folder: of all state; other users must be able to pass through it.
      rounds: of the run, at least ``LEAST_ROUNDS``.
      seed: of the disorder.
    """
    seen = Trial()
    with ExitStack() as until:
        store = until.enter_context(s3_server())
        os.environ.update(environment(store), FEDLOOM_HOME=str(folder / "home"))
        make_bucket(MAILBOX.removeprefix("s3://"))
        links, seen.connections = until.enter_context(
            linked(SITES, SLOW, DELAY_SECONDS, BYTES_A_SECOND)
        )
        sites = [_site(folder / "sites" / link.site, link.site) for link in links]
        stack = bring_up(folder / "home", tell=lambda line: None)
        until.callback(bring_down, stack.home, tell=lambda line: None)
        register(stack)
        usual = store.removeprefix("http://")
        between = until.enter_context(disorder(usual, seed))
        (address,) = (link.inside for link in links if link.site == DISORDERED)
        stores = Stores(usual, address, f"127.0.0.1:{between.server_port}")
        certificate = until.enter_context(entrance(folder / "entrance", stack, stores))
        until.enter_context(_working(folder, sites, links, certificate))
        _run(seen, stack, {link.site: link for link in links}, rounds)
        seen.disorder = dict(between.did)
        if seen.problems:
            logs = (last_lines(_log(folder, link.site), 40) for link in links)
            seen.logs = "\n".join(logs)
    return seen


def _site(path: Path, name: str) -> SiteFolder:
    site = ensure_site(path, name)
    outside = {"api": API, "mailbox": MAILBOX}
    write_settings(site, site.settings.model_copy(update=outside))
    return site


@contextmanager
def _working(
    folder: Path, sites: Sequence[SiteFolder], links: Sequence[Link], certificate: Path
) -> Iterator[None]:
    """Each site's worker in its namespace, until the block ends."""
    words = {
        **keep.environment(),
        "AWS_ENDPOINT_URL": STORE,
        "AWS_CA_BUNDLE": str(certificate),
        "SSL_CERT_FILE": str(certificate),
    }
    workers = []
    for site, link in zip(sites, links, strict=True):
        command = link.command(sys.executable, "-m", "deployments.site.worker", str(site.path))
        with _log(folder, link.site).open("wb") as log:
            workers.append(subprocess.Popen(command, env=words, stdout=log, stderr=log))
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def _log(folder: Path, site: str) -> Path:
    return folder / f"{site}.log"


def _run(seen: Trial, stack: Stack, links: Mapping[str, Link], rounds: int) -> None:
    control, began = Control(stack), time.monotonic()
    overrides = {
        "rounds.count": rounds,
        "evaluation.every": rounds,
        "engine.mailbox": MAILBOX,
        "engine.deadline_seconds": 8,
        "engine.quorum": 3,
        "engine.grace_seconds": 2,
        "engine.limit_seconds": LIMIT_SECONDS / 2,
    }
    run = control.start(DEPLOYMENT, {"overrides": overrides})
    chain, last = Chain(Store(stack.home / "store"), run), began
    while time.monotonic() - began < LIMIT_SECONDS:
        state = control.state(run)
        done = len(seen.rounds)
        for record in _records(chain)[done:]:
            now = time.monotonic()
            is_cut = CUT_AFTER < record.round <= CUT_AFTER + CUT_FOR
            seen.rounds.append(_told(record, now - last, is_cut))
            last = now
            if record.round == CUT_AFTER:
                links[CUT].cut()
            if record.round == CUT_AFTER + CUT_FOR:
                links[CUT].mend()
            if record.round == rounds - 1:
                links[PARTED].cut()
        if state in ENDED:
            seen.state = state
            break
        time.sleep(0.1)
    links[PARTED].mend()
    seen.seconds = time.monotonic() - began
    ends = time.monotonic() + PARTING_SECONDS
    while time.monotonic() < ends:
        seen.sessions = control.sessions(run)
        if {*seen.sessions.values()} <= ENDED:
            break
        time.sleep(0.5)


def _records(chain: Chain) -> list[RoundRecord]:
    try:
        return list(chain.records())
    except LookupError:  # it has not begun
        return []


def _told(record: RoundRecord, seconds: float, is_cut: bool) -> dict[str, Any]:
    sites = {
        site: row["status"] if row["status"] != "refused" else f"refused ({row['reason']})"
        for site, row in record.outcomes.items()
    }
    return {"round": record.round, "seconds": seconds, "cut": is_cut, "sites": sites}
