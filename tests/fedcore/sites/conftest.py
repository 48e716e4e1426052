"""A coordinator and sites in folders of their own, over a folder as mailbox."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from fedcore.config import make_config
from fedcore.numerics import code_digest
from fedcore.rounds import run_rounds
from fedcore.run import conclude
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.folder import SiteFolder, SiteSettings, make_site, trust
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.run import begin_over_sites, invite
from fedcore.sites.session import attend
from fedcore.sites.status import resume
from fedcore.store import Store

POLICY = f"""
runs: ["*"]
purposes: ["*"]
jobs: [audit, prepare, train, evaluate]
approval: {{kind: by_rule, code: ["{code_digest()}"]}}
minimum_examples: 1
minimum_group: 1
rounds_per_day: 1000
metrics: {{kind: exact}}
"""
ARRAYS = {"kind": "arrays", "path": "own.npz", "task": "binary", "inputs": "x", "targets": "y"}


def save(path, splits, owners=False):
    """One npz of all splits, as ``Arrays`` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = splits.items()
    values = {
        "x": np.concatenate([part.inputs for _, part in parts]),
        "y": np.concatenate([part.targets for _, part in parts]),
        "split": np.concatenate([np.full(len(part), name) for name, part in parts]),
    }
    if owners:
        values["owner"] = np.concatenate([part.owners for _, part in parts])
    np.savez(path, **values)
    return path


@dataclass(frozen=True)
class World:
    """All parties, in one folder."""

    coordinator: Coordinator
    sites: dict[str, SiteFolder]
    store: Store
    mailbox: Mailbox

    def config(self, **sections):
        engine = {"kind": "sites", "limit_seconds": 20, "join_seconds": 20, "deadline_seconds": 20}
        return make_config(
            {
                "partition": {"kind": "by_owner"},
                "rounds": {"count": 2, "min_clients": len(self.sites)},
                "engine": engine,
            },
            sections,
        )

    def run(self, config, run_id="run", say=print, each=lambda record: None):
        """What the coordinator does from invitation to chosen model; ``each``: after a round."""
        invitation = invite(config, self.coordinator, self.mailbox, run_id)
        plan, chain = begin_over_sites(config, invitation, self.store, run_id, say)
        engine = invitation.engine(plan, self.store, say)
        for record in run_rounds(plan, chain, engine, lambda event: None):
            each(record)
        result = conclude(plan, chain, engine)
        invitation.close()
        return plan, result


@pytest.fixture
def make_world(tmp_path):
    return lambda data, at=tmp_path, **changes: _world(at, data, **changes)


def _world(tmp_path, data, policy=POLICY, mailbox=None):
    """``data``: site -> (settings of its data, folder)."""
    where = mailbox or str(tmp_path / "mailbox")
    coordinator = Coordinator(tmp_path / "coordinator")
    sites = {}
    for name, (settings, folder) in data.items():
        own = SiteSettings(name=name, data=settings, folder=str(folder), mailbox=where)
        site = make_site(tmp_path / "sites" / name, own, policy)
        trust(site, coordinator.identity.public)
        coordinator.registry.register(site.identity.public, most_examples=10_000)
        resume(site.status_file, site.log)
        sites[name] = site
    store = Store(tmp_path / "store")
    return World(coordinator, sites, store, Mailbox(Store(where)))


@pytest.fixture
def attended():
    return _attended


@contextmanager
def _attended(*sessions):
    """The sessions served by a thread, until the block ends."""
    done = threading.Event()
    thread = threading.Thread(target=attend, args=(sessions, done.is_set), daemon=True)
    thread.start()
    try:
        yield
        thread.join(10)  # ends by itself once all are closed
    finally:
        done.set()
        thread.join(10)
