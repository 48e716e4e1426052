"""A coordinator and sites in folders of their own, over a folder as mailbox."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.mailbox_parties import POLICY, Parties, acquaint
from fedcore.config import make_config
from fedcore.rounds import run_rounds
from fedcore.run import conclude
from fedcore.sites.run import begin_over_sites, invite
from fedcore.sites.session import attend

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


class World(Parties):
    """All parties, in one folder."""

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
    """Of site -> (settings of its data, folder)."""

    def make(data, at=tmp_path, policy=POLICY, mailbox=None):
        parties = acquaint(at, mailbox or str(at / "mailbox"), data, policy)
        return World(**vars(parties))

    return make


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
