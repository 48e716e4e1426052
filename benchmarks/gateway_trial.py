"""A run over sites through the gateway of a real stack, while others flood it with bad requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.chaos.control import Control
from benchmarks.chaos.stack import log_of
from benchmarks.gateway_flood import start_flood
from benchmarks.mailbox_parties import make_parties
from benchmarks.report import quartiles
from deployments.gateway.tokens import Tokens, tokens_file
from deployments.registration import register
from deployments.site.keep import environment
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.stack import Stack
from deployments.stack.supervision import log_path
from fedcore.config import make_config
from fedcore.events import EventType
from fedcore.sites.folder import SiteFolder, write_settings

SITES, MOLES = ("site-1", "site-2", "site-3"), ("mole-1", "mole-2")
CALM = 20.0  # seconds before the flood
PAUSE = 0.25  # of the probe between two requests
LONGEST = 240.0  # seconds until the first round
TOLD = re.compile(r"(\S+): refused in all: (.+) \((\d+) times\)")


def withstand(seconds: float, rate: float) -> dict[str, Any]:
    """What a flood of so many bad requests a second does to honest sites, and to the gateway."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tokens = Tokens(tokens_file(home))
        words = {name: tokens.issue(name) for name in (*SITES, *MOLES)}
        try:
            stack = bring_up(home, tell=lambda line: None)
            register(stack)
            parties = make_parties(home, str(home / "mailbox"), SITES)
            for name, site in parties.sites.items():
                api = {"api": stack.gateway_url}
                write_settings(site, site.settings.model_copy(update=api))
                (site.path / "token").write_text(words[name])
                (site.path / "token").chmod(0o600)
            with working(home, parties.sites):
                found = _flooded(stack, words, seconds, rate)
        finally:
            bring_down(home)
        found["refusals counted"] = _counted(home)
    return found


def _flooded(stack: Stack, words: dict[str, str], seconds: float, rate: float) -> dict[str, Any]:
    run = Control(stack).start("train-federated/custom", _endless())
    begun = time.monotonic()
    while not _rounds(stack, run, 0.0):
        if time.monotonic() - begun > LONGEST:
            raise RuntimeError(f"no round after {LONGEST:g} s; see the logs in {stack.home}.")
        time.sleep(0.5)
    gateway = psutil.Process(stack.processes["gateway"].pid)
    with probing(stack, words[SITES[0]]) as probe:
        time.sleep(CALM)
        calm, before = probe.taken(), _megabytes(gateway)
        since, used = time.time(), sum(gateway.cpu_times()[:2])
        attack = start_flood(
            stack.gateway_port, [words[mole] for mole in MOLES], SITES[0], seconds, rate
        )
        time.sleep(seconds / 2)
        midway = _megabytes(gateway)
        told = json.loads(attack.communicate()[0])
        stormy, now = probe.taken(), time.time()
    return {
        "bad requests a second, asked for": rate,
        "bad requests a second": sum(told["answers"].values()) / told["seconds"],
        "answers": told["answers"],
        "rounds a minute before": 60 * _rounds(stack, run, since - CALM, since) / CALM,
        "rounds a minute": 60 * _rounds(stack, run, since, now) / (now - since),
        "honest requests": calm.asked + stormy.asked,
        "of them not answered": calm.failed + stormy.failed,
        "seconds of an honest request, before": quartiles(calm.seconds),
        "seconds of an honest request": quartiles(stormy.seconds),
        "seconds of the slowest": max(stormy.seconds),
        "gateway's share of a core": (sum(gateway.cpu_times()[:2]) - used) / (now - since),
        "MB before": before,
        "MB midway": midway,
        "MB at the end": _megabytes(gateway),
    }


def _endless() -> dict[str, Any]:
    """The configuration of a run that goes on until the stack is ended."""
    return make_config(
        {
            "partition": {"kind": "by_owner"},
            "audit": {"remedy": "accept"},
            "model": {"kind": "logistic"},
            "training": {"kind": "loop", "batch_size": 16, "steps": 2},
            "rounds": {"count": 1000, "min_clients": len(SITES)},
            "evaluation": {"every": 1000},
            "engine": {"kind": "sites", "limit_seconds": 600, "join_seconds": 600},
        }
    ).model_dump(mode="json")


@contextmanager
def working(home: Path, sites: dict[str, SiteFolder]) -> Iterator[None]:
    """A worker for each site, as it is run there."""
    with open(home / "workers.log", "w") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "deployments.site.worker", str(site.path)],
                env=environment(),
                stderr=log,
            )
            for site in sites.values()
        ]
        try:
            yield
        finally:
            for process in started:
                process.kill()
                process.wait()


@dataclass
class Probe:
    """What became of a site's requests."""

    asked: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)

    def taken(self) -> Probe:
        """All since the last time."""
        found = Probe(self.asked, self.failed, self.seconds)
        self.asked, self.failed, self.seconds = 0, 0, []
        return found


@contextmanager
def probing(stack: Stack, token: str) -> Iterator[Probe]:
    """A site's worker that looks for runs and says that it lives, all the time, until the block
    ends."""
    probe, over = Probe(), threading.Event()

    def ask() -> None:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{stack.gateway_url}/work_pools/sites"
        with httpx.Client(headers=headers, timeout=60, trust_env=False) as client:
            while not over.wait(PAUSE):
                path = ("get_scheduled_flow_runs", "workers/heartbeat")[probe.asked % 2]
                began = time.monotonic()
                try:
                    ok = client.post(f"{url}/{path}", json={}).is_success
                except httpx.HTTPError:
                    ok = False
                probe.asked, probe.failed = probe.asked + 1, probe.failed + (not ok)
                probe.seconds.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probe
    finally:
        over.set()
        thread.join()


def _rounds(stack: Stack, run: str, since: float, until: float = float("inf")) -> int:
    return sum(
        event.type is EventType.ROUND_COMPLETED and since <= event.ts < until
        for event in log_of(stack).history(run)
    )


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def _counted(home: Path) -> dict[str, int]:
    """Reason -> how often, as the gateway's log tells at its end."""
    found: Counter[str] = Counter()
    for _, reason, times in TOLD.findall(log_path(home, "gateway").read_text()):
        found[reason] += int(times)
    return dict(found)
