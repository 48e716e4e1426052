"""The federated-statistics flow against a Prefect server, its sites attended in this process."""

import threading
import time

import numpy as np
import pytest

from fedcore.audit.settings import AuditSettings
from fedcore.data.arrays import Arrays
from fedcore.engines.settings import Sites
from fedcore.numerics import code_digest
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.folder import SiteSettings, make_site, trust
from fedcore.sites.session import Session, attend
from fedcore.sites.statistics_question import StatisticsSettings
from fedcore.sites.status import resume
from tasks import home

pytestmark = pytest.mark.stack
POLICY = f"""
runs: ["*"]
purposes: [figures]
jobs: [audit, statistics]
approval: {{kind: by_rule, code: ["{code_digest()}"]}}
minimum_group: 5
statistics: ["*"]
"""
ROWS = {"north": 40, "south": 30}


def site(folder, name, rows):
    """A site with two columns; in the second one three values of the first site are rare."""
    data = folder / name / "rows"
    data.mkdir(parents=True)
    draw = np.random.default_rng(rows)
    inputs = draw.normal(rows, 2, (rows, 2)).astype(np.float32)
    if name == "north":
        inputs[:, 1] = np.arange(rows) < 3
    np.savez(data / "own.npz", x=inputs, y=np.arange(rows) % 2, split=np.full(rows, "train"))
    words = {"task": "binary", "inputs": "x", "targets": "y", "split": "split"}
    words |= {"val_fraction": 0, "test_fraction": 0}
    settings = SiteSettings(
        name=name,
        data=Arrays(path="own.npz", **words),
        folder=str(data),
        mailbox=str(home.home() / "mailbox"),
    )
    made = make_site(folder / name / "site", settings, POLICY)
    coordinator = Coordinator(home.coordinator())
    trust(made, coordinator.identity.public)
    coordinator.registry.register(made.identity.public, most_examples=1000)
    resume(made.status_file, made.log)
    return made, inputs


def attend_the_run(sites, done):
    """Sessions of these sites in the run that is taken up next."""
    while not (runs := list((home.home() / "store" / "runs").glob("*/notes/opening.json"))):
        if done.wait(0.1):
            return
    run = runs[0].parents[1].name
    attend([Session(one, run) for one in sites], done.is_set)


def test_the_table_of_all_sites_is_shown_and_nothing_is_trained(on_stack, tmp_path):
    from prefect.client.orchestration import get_client

    from flows.federated_statistics import federated_statistics

    made = {name: site(tmp_path, name, rows) for name, rows in ROWS.items()}
    done = threading.Event()
    sites = [one for one, _ in made.values()]
    thread = threading.Thread(target=attend_the_run, args=(sites, done), daemon=True)
    thread.start()
    try:
        found = federated_statistics(
            "figures",
            StatisticsSettings(bins=4, by_label=True),
            min_sites=2,
            audit=AuditSettings(remedy="accept"),
            engine=Sites(limit_seconds=60, join_seconds=30),
        )
        ended = time.monotonic()
        thread.join(20)
        assert not thread.is_alive(), f"the sessions go on {time.monotonic() - ended:.0f} s later"
    finally:
        done.set()
        thread.join(10)
    rows = {(one["label"], one["column"]): one for one in found["columns"]}
    everybody = np.concatenate([inputs for _, inputs in made.values()]).astype(np.float64)
    first = rows["", "x0"]
    assert (first["count"], len(first["silent"])) == (70, 0)
    assert first["mean"] == pytest.approx(everybody[:, 0].mean())
    assert first["variance"] == pytest.approx(everybody[:, 0].var())
    assert list(rows["", "x1"]["silent"]) == ["north"] and rows["", "x1"]["count"] == 30
    with get_client(sync_client=True) as client:
        shown = [one.data for one in client.read_artifacts() if one.key == "statistics"]
        sessions = [one for one in client.read_flow_runs() if " in " in one.name]
    assert "| x1 | all | 1 | 30 |" in shown[-1] and "| north |" in shown[-1]
    assert "data:image/png;base64," in shown[-1]
    ended = {"CANCELLING", "CANCELLED", "COMPLETED"}  # a session may end before it is told to
    mine = sorted(sessions, key=lambda one: one.created)[-2:]
    assert {one.state.type.value for one in mine} <= ended
    for one in sites:
        kinds = {entry.subject for entry in one.log.entries() if entry.action == "released"}
        assert kinds == {"audit", "statistics"}
