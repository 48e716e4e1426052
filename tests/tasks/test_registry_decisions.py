"""Forks and decisions in MLflow: tags, report, card, and lineage that finds what was altered."""

from pathlib import Path

import pytest

from fedcore.config import make_config
from fedcore.decisions import Answer, Verdict
from fedcore.digests import digest_arrays
from fedcore.engines.in_process import InProcessEngine
from fedcore.fork import fork
from fedcore.run import begun, go_on, run_federated
from fedcore.store import Store
from tasks.registry import tags
from tasks.registry.artifacts import LoggedRun, run_report
from tasks.registry.card import model_card
from tasks.registry.champion import Comparison
from tasks.registry.finished_run import FinishedRun
from tasks.registry.lineage import Lineage, check_history
from tasks.registry.model_version import VersionRef

SECTIONS = {
    "data": {"kind": "digits", "limit": 200},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 2},
    "approvals": {"audit": "always"},
}
FIRST = Comparison(None)


def drop_one(plan, question):
    return Answer(Verdict.DROP, "A. Smith", "mislabelled", plan.federation.ids[:1])


@pytest.fixture(scope="module")
def store():
    store = Store("memory://registry-decisions")
    engine = InProcessEngine(store, Path("unused"))
    config = make_config(SECTIONS)
    run_federated(config, store=store, engine=engine, run_id="parent", ask=drop_one)
    plan, chain = fork(store, "parent", 1, {"rounds.count": 3}, "child")
    go_on(plan, chain, engine)
    return store


def finished(store, run_id):
    _, chain = begun(store, run_id)
    records = [record.to_json() for record in chain.records()]
    last = list(chain.records())[-1]
    return FinishedRun(
        run_id,
        chain.header(),
        records,
        last.round,
        store.get_arrays(last.model),
        last.metrics,
        decisions=[one.to_json() for one in chain.decisions()],
    )


def logged(run):
    return LoggedRun(
        run.header, tuple(run.records), run.round, run.evaluation, None, tuple(run.decisions)
    )


@pytest.mark.parametrize("run_id", ["parent", "child"])
def test_an_intact_history_has_no_problems(store, run_id):
    run = finished(store, run_id)
    assert list(check_history(logged(run), run.tags, run.params)) == []
    assert run.tags[tags.MODEL_DIGEST] == digest_arrays(run.params)


def test_tags_and_lineage_name_parent_round_and_decision(store):
    run = finished(store, "child")
    assert (run.tags[tags.PARENT_RUN], run.tags[tags.PARENT_ROUND]) == ("parent", "1")
    told = str(Lineage(VersionRef("m", "1"), run.tags, logged(run), ()))
    assert f"begins with rounds 1 to 1 of run parent (record {run.origin.record[:12]})" in told
    assert "decision: drop clients client-000, before round 1, by A. Smith at 2" in told


def test_report_and_card_tell_decisions_and_how_to_make_it_again(store):
    run = finished(store, "child")
    report = run_report(run, b"")
    assert "> Decision: drop clients client-000, before round 1, by A. Smith" in report
    assert "rounds 1 to 1 of run parent" in report
    card = model_card(run, FIRST, "mlflow-run", 5000)
    assert "fedloom run --fork parent --at-round 1" in card
    assert "| decision 1 | drop clients client-000" in card
    card = model_card(finished(store, "parent"), FIRST, "mlflow-run", 5000)
    assert "Decisions dropped client-000; they are to be taken again" in card


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"why": "other"}, "the decisions end elsewhere than the version's tag says"),
        ({"previous": "0" * 64}, "decision 1 does not follow the one before it"),
        ({"clients": []}, "round 1 was not made after the decisions that are there"),
    ],
)
def test_an_altered_decision_is_found(store, changes, problem):
    run = finished(store, "parent")
    altered = [{**run.decisions[0], **changes}]
    history = LoggedRun(run.header, tuple(run.records), run.round, {}, None, tuple(altered))
    assert problem in list(check_history(history, run.tags, run.params))
    removed = LoggedRun(run.header, tuple(run.records), run.round, {}, None)
    assert "the decisions end elsewhere than the version's tag says" in list(
        check_history(removed, run.tags, run.params)
    )
