"""A run over two sites with workers of their own, through the real stack."""

import os
import time

import numpy as np
import psutil
import pytest

from benchmarks.chaos.control import Control
from deployments.registration import register
from deployments.site import keep
from deployments.stack.supervision import last_lines, service_states
from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.data.arrays import Arrays
from fedcore.engines.in_process import InProcessEngine
from fedcore.numerics import code_digest
from fedcore.run import run_federated
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.folder import SiteSettings, make_site, trust
from fedcore.sites.status import resume
from fedcore.store import Store

# Values that nothing else has, as bytes of a row and as text.
CANARY = {"north": 0.123456789, "south": 0.987654321}
POLICY = f"""
runs: ["*"]
purposes: [custom]
jobs: [audit, prepare, train, evaluate]
approval: {{kind: by_rule, code: ["{code_digest()}"]}}
metrics: {{kind: exact}}
"""
SECTIONS = {
    "partition": {"kind": "by_owner"},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "training": {"kind": "loop", "batch_size": 16, "steps": 3},
    "rounds": {"count": 6, "min_clients": 2},
    "evaluation": {"every": 6},
}


def rows(name, seed):
    """60 rows of a hospital, one value of them the canary."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(seed, 1, (60, 3)).astype(np.float32)
    inputs[7, 1] = CANARY[name]
    split = np.repeat(["train", "val", "test"], 20)
    return inputs, (np.arange(60) % 2).astype(np.int64), split


def save(path, *names):
    """The rows of these hospitals in one file."""
    parts = [(*rows(name, seed), np.full(60, name)) for name, seed in names]
    x, y, split, owner = (np.concatenate(column) for column in zip(*parts, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y, split=split, owner=owner)


def arrays(path):
    words = {"inputs": "x", "targets": "y", "split": "split", "owner": "owner"}
    return Arrays(path=str(path), task="binary", **words)


@pytest.fixture
def federation(stack, tmp_path, serving):
    """Two sites known to the stack's coordinator, their workers running behind a gateway."""
    with serving(stack, tmp_path, *CANARY) as (url, tokens, door):
        yield from _federation(stack, tmp_path, url, tokens)
        assert not door.refused


def _federation(stack, tmp_path, url, tokens):
    coordinator, sites = Coordinator(stack.home / "coordinator"), []
    for seed, name in enumerate(CANARY):
        save(tmp_path / name / "data" / "own.npz", (name, seed))
        settings = SiteSettings(
            name=name,
            data=arrays("own.npz"),
            folder=str(tmp_path / name / "data"),
            api=url,
            mailbox=str(tmp_path / "mailbox"),
        )
        site = make_site(tmp_path / name / "site", settings, POLICY)
        trust(site, coordinator.identity.public)
        descriptor = os.open(site.path / "token", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(tokens[name])
        coordinator.registry.register(site.identity.public, most_examples=1000)
        resume(site.status_file, site.log)
        sites.append(site)
    register(stack)
    keep.start(tmp_path / "workers", sites)
    yield sites
    keep.end(tmp_path / "workers")


@pytest.mark.stack
def test_two_sites_one_killed_train_the_model_of_one_process_and_no_row_leaves_them(
    stack, federation, tmp_path
):
    joint = tmp_path / "joint.npz"
    save(joint, *((name, seed) for seed, name in enumerate(CANARY)))
    here = Store(tmp_path / "here")
    alone = make_config(SECTIONS | {"data": arrays(joint).model_dump()})
    engine = InProcessEngine(here, tmp_path / "cache")
    _, expected = run_federated(alone, store=here, engine=engine, run_id="alone")

    engine = {"kind": "sites", "mailbox": str(tmp_path / "mailbox"), "limit_seconds": 90}
    config = make_config(SECTIONS | {"engine": engine})
    control = Control(stack)
    run = control.start("train-federated/custom", config.model_dump(mode="json"))
    chain, ends = Chain(Store(stack.home / "store"), run), time.monotonic() + 200
    while not chain.store.holds_name(f"runs/{run}/rounds/000001.json"):
        assert time.monotonic() < ends and control.state(run) != "Failed", control.state(run)
        time.sleep(0.1)
    psutil.Process(service_states(tmp_path / "workers")["north"]["pid"]).kill()
    while control.state(run) not in {"Completed", "Failed", "Crashed", "Cancelled"}:
        assert time.monotonic() < ends, control.state(run)
        time.sleep(0.5)
    logs = "\n".join(last_lines(tmp_path / "workers" / "logs" / f"{name}.log") for name in CANARY)
    assert control.state(run) == "Completed", logs
    records = list(chain.records())
    assert [r.model for r in records] == [r.model for r in expected.records]
    assert {row["status"] for r in records for row in r.outcomes.values()} == {"done"}

    sessions = control._prefect(
        "POST", "/flow_runs/filter", {"flow_runs": {"tags": {"all_": [f"flow-run:{run}"]}}}
    )
    assert sorted(one["state"]["name"] for one in sessions) == ["Completed", "Completed"]
    tasks = {task["name"] for one in sessions for task in control.tasks(one["id"])}
    assert tasks == {f"round-{n}/train" for n in range(1, 7)} | {"round-6/evaluate"}

    words = [str(tmp_path / "north" / "data").encode(), b"own.npz"]
    for value in CANARY.values():
        words += [np.float32(value).tobytes(), np.float64(np.float32(value)).tobytes()]
        words += [repr(float(np.float32(value))).encode(), str(value).encode()]
    for folder in (stack.home, tmp_path / "mailbox"):
        for path in (p for p in folder.rglob("*") if p.is_file()):
            held = path.read_bytes()
            assert not [word for word in words if word in held], path
    for site in federation:
        site.log.verify()
