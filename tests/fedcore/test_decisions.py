"""Decisions on a run: what is asked and when, what is refused, what is kept and what follows."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedcore.approvals import QualityBound
from fedcore.attacks import verdict
from fedcore.attacks.found import note
from fedcore.attacks.one_run import OneRun
from fedcore.chain import Chain, ChainBroken, RunTakenOver
from fedcore.config import ConfigError, make_config
from fedcore.decisions import (
    Answer,
    AnswerRefused,
    ApprovalNeeded,
    Question,
    StoppedByOperator,
    Verdict,
    check_answer,
)
from fedcore.engines.in_process import InProcessEngine
from fedcore.fork import fork
from fedcore.questions import (
    _point,
    between_rounds,
    consult_before_registration,
    newly_crossed,
    warnings_of,
)
from fedcore.run import begun, go_on, run_federated
from fedcore.store import Store

SECTIONS = {
    "data": {"kind": "digits", "limit": 200},
    "partition": {"kind": "iid", "clients": 4},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 3, "min_clients": 2},
    "approvals": {"audit": "always"},
}
ALWAYS_LOW = {"metric": "accuracy", "when": "below", "bound": 2.0}


class Person:
    """Answers as told, by the point that is asked about; approves the rest."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def __call__(self, plan, question):
        self.asked.append(question)
        verdict, *clients = self.answers.get(question.point, [Verdict.APPROVE])
        return Answer(verdict, "A. Smith", "I looked at it.", tuple(clients))


def run(store, person, run_id="run", **changes):
    config = make_config(SECTIONS, changes)
    engine = InProcessEngine(store, Path(store.root + "-cache"))
    return run_federated(config, store=store, engine=engine, run_id=run_id, ask=person)[1]


@pytest.fixture
def store(request):
    return Store(f"memory://decisions/{request.node.name}")


def test_nobody_is_asked_by_default(store):
    person = Person()
    run(store, person, **{"approvals.audit": "never"})
    assert person.asked == [] and Chain(store, "run").decisions() == ()


def test_who_cannot_be_asked_is_told_the_way_out(store):
    config = make_config(SECTIONS)
    engine = InProcessEngine(store, Path(store.root + "-cache"))
    with pytest.raises(ApprovalNeeded, match=r"Begin training.*run of a deployment.*approvals"):
        run_federated(config, store=store, engine=engine, run_id="run")


def test_an_approval_is_kept_with_who_when_and_why_and_is_not_asked_again(store):
    person = Person()
    first = run(store, person)
    (decision,) = Chain(store, "run").decisions()
    assert (decision.verdict, decision.who, decision.round) == (Verdict.APPROVE, "A. Smith", 0)
    assert decision.why == "I looked at it." and decision.when.endswith("+00:00")
    assert {record.decided for record in first.records} == {decision.digest}
    assert run(store, person).final_digest == first.final_digest
    assert [question.point for question in person.asked] == ["audit"]


def test_warnings_are_asked_about_only_where_there_are_some(store):
    config = make_config(SECTIONS, {"approvals.audit": "warnings"})
    plan, chain = begun_run(store)
    plan = replace(plan, config=config)
    assert list(between_rounds(plan, (), ())) == []
    (question,) = between_rounds(plan, (), ("Two samples are alike.",))
    assert question.asks == "Two samples are alike. Begin training?"
    assert question.clients == plan.federation.ids and question.need == 2
    chain.annotate("warnings", ["No GPU here."])
    assert warnings_of(chain)[-1] == "No GPU here."
    finding = {**chain.annotation("audit"), "findings": [FINDING]}
    chain.annotate("partition-audit", finding)
    assert "Too few." in warnings_of(chain)


FINDING = {
    "check": "support",
    "severity": "warning",
    "splits": ["train"],
    "count": 1,
    "message": "Too few.",
    "examples": [],
    "remedy": "",
}


def begun_run(store):
    run(store, Person(), **{"rounds.count": 1})
    return begun(store, "run")


def test_dropped_clients_are_asked_no_more_and_the_same_decisions_give_the_same_model(store):
    low = {"approvals.quality": [{**ALWAYS_LOW, "from_round": 2}], "approvals.audit": "never"}
    point = "round-2-accuracy-below-2"
    person = Person(**{point: [Verdict.DROP, "client-001", "client-000"]})
    result = run(store, person, **low)
    assert [question.point for question in person.asked] == [point]
    assert "After round 2 of 3 accuracy on validation data is" in person.asked[0].asks
    everybody = ("client-000", "client-001", "client-002", "client-003")
    assert [r.cohort for r in result.records] == [everybody, everybody, everybody[2:]]
    again = run(store, person, "again", **low)
    assert again.final_digest == result.final_digest
    assert run(store, Person(), "all", **low).final_digest != result.final_digest


def test_a_stop_ends_the_run_for_good_and_a_fork_goes_on(store):
    low = {"approvals.quality": [{**ALWAYS_LOW, "from_round": 2}]}
    person = Person(**{"round-2-accuracy-below-2": [Verdict.STOP]})
    with pytest.raises(StoppedByOperator, match=r"by A\. Smith at 2.*--fork run --at-round 2"):
        run(store, person, **low)
    assert len(list(Chain(store, "run").records())) == 2
    with pytest.raises(StoppedByOperator):
        run(store, person, **low)
    assert len(person.asked) == 2
    plan, chain = fork(store, "run", 2, {"approvals.quality": []}, "fork")
    assert [one.point for one in chain.decisions()] == ["audit"]
    engine = InProcessEngine(store, Path(store.root + "-cache"))
    assert len(go_on(plan, chain, engine, ask=person).records) == 3
    assert chain.decisions()[0].who == "A. Smith" and len(person.asked) == 2


def test_a_fork_keeps_who_was_dropped(store):
    person = Person(audit=[Verdict.DROP, "client-003"])
    expected = run(store, person)
    plan, chain = fork(store, "run", 1, {}, "fork")
    engine = InProcessEngine(store, Path(store.root + "-cache"))
    result = go_on(plan, chain, engine)
    assert result.final_digest == expected.final_digest
    assert "client-003" not in result.records[-1].cohort


def test_registration_is_agreed_once(store):
    agreed = {"approvals.registration": True}
    run(store, Person(), **agreed)
    plan, chain = begun(store, "run")
    person, shown = Person(), OneRun(2.0, 1e-5, 0.95, 1000, 500, 480)
    chain.annotate(note("claim"), verdict.Verdict(1.0, shown, shown).to_json() | {"client": "a"})
    plan = consult_before_registration(plan, chain, person)
    assert plan.decisions[-1].point == "registration"
    assert "FAIL: the training claims epsilon 1.00" in plan.decisions[-1].asks
    consult_before_registration(plan, chain, person)
    consult_before_registration(begun(store, "run")[0], chain, person)
    assert len(person.asked) == 1
    assert person.asked[0].verdicts == (Verdict.APPROVE, Verdict.STOP)
    _, forked = fork(store, "run", 3, {}, "fork")
    assert [one.point for one in forked.decisions()] == ["audit"]  # another version, asked again


QUESTION = Question("audit", 0, "Begin?", ("a", "b", "c"), need=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"who": " "}, "who=' ' is empty"),
        ({"why": ""}, "why='' is empty"),
        ({"who": "x" * 201}, "who has 201 characters"),
        ({"clients": ("a",)}, r"clients=\['a'\] are named, but the decision is 'approve'"),
        ({"verdict": Verdict.DROP}, "names nobody to drop"),
        ({"verdict": Verdict.DROP, "clients": ("z",)}, r"\['z'\] cannot be dropped; .*'a', 'b'"),
        ({"verdict": Verdict.DROP, "clients": ("a", "b")}, "leaves 1 clients, but a round needs 2"),
    ],
)
def test_answers_that_cannot_be_carried_out_are_refused(changes, message):
    answer = replace(Answer(Verdict.APPROVE, "me", "because"), **changes)
    with pytest.raises(AnswerRefused, match=message):
        check_answer(QUESTION, answer)


def test_dropping_is_not_offered_where_it_would_change_nothing():
    last = replace(QUESTION, clients=())
    with pytest.raises(AnswerRefused, match="no round follows; approve or stop"):
        check_answer(last, Answer(Verdict.DROP, "me", "because", ("a",)))
    needed = replace(QUESTION, need=3)
    with pytest.raises(AnswerRefused, match="needs 3 of the 3 clients"):
        check_answer(needed, Answer(Verdict.DROP, "me", "because", ("a",)))


def measured(*values):
    return [
        SimpleNamespace(round=n, metrics={"val": {"overall": {"auc": v}}} if v is not None else {})
        for n, v in enumerate(values, start=1)
    ]


def test_a_bound_is_asked_about_once_for_each_crossing():
    bound = QualityBound(metric="auc", when="below", bound=0.7, from_round=2)
    values = [0.1, 0.8, 0.6, None, 0.5, 0.9, 0.6]
    crossed = [
        number
        for number in range(1, len(values) + 1)
        if newly_crossed(bound, measured(*values[:number])) is not None
    ]
    assert crossed == [3, 7]
    above = QualityBound(metric="auc", when="above", bound=0.7)
    assert newly_crossed(above, measured(0.6, 0.9)) == 0.9
    assert newly_crossed(above, measured(0.6, float("nan"))) is None


@pytest.mark.parametrize("bound", [0.25, -1.5, 1e9])
def test_points_are_names_that_prefect_takes(bound):
    text = _point(QualityBound(metric="balanced_accuracy", bound=bound), 3)
    assert re.fullmatch(r"round-3-balanced-accuracy-below-[a-z0-9-]+", text)


def chain_with_decisions(store):
    """Two decisions before round 1 and 2, and one after the last round."""
    low = {"approvals.quality": [ALWAYS_LOW]}
    run(store, Person(), **{**low, "approvals.registration": True})
    plan, chain = begun(store, "run")
    consult_before_registration(plan, chain, Person())
    return chain


def test_any_changed_byte_of_a_decision_is_found(store):
    chain = chain_with_decisions(store)
    names = store.names("runs/run/decisions")
    assert len(names) == 3
    for name in names:
        data = store.read(name)
        for position in range(0, len(data), 31):
            changed = bytes([data[position] ^ 1])
            store.write(name, data[:position] + changed + data[position + 1 :])
            with pytest.raises(ChainBroken):
                list(chain.records())
        store.write(name, data)
    assert len(list(chain.records())) == 3


@pytest.mark.parametrize("number", [1, 2])
def test_a_removed_decision_is_found(store, number):
    chain = chain_with_decisions(store)
    store.remove(f"runs/run/decisions/{number:06d}.json")
    with pytest.raises(ChainBroken, match="does not follow the one before"):
        list(chain.records())


def test_decisions_cannot_be_rewritten_from_the_end(store):
    chain = chain_with_decisions(store)
    for number in (3, 2):
        store.remove(f"runs/run/decisions/{number:06d}.json")
    with pytest.raises(ChainBroken, match=r"round 2 .* was not made after the decisions"):
        list(chain.records())


def test_two_processes_cannot_both_decide(store, monkeypatch):
    run(store, Person())
    chain = Chain(store, "run")
    decisions = chain.decisions()
    monkeypatch.setattr(chain, "decisions", lambda: decisions)
    answer = Answer(Verdict.APPROVE, "me", "because")
    chain.decide(Question("registration", 3, "?"), answer)
    with pytest.raises(RunTakenOver, match="decision 2 on run run was taken by another"):
        chain.decide(Question("registration", 3, "?"), answer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registry.register_model": False, "approvals.registration": True}, "leaves out"),
        ({"evaluation.splits": ["test"], "approvals.quality": [{}]}, "does not measure; add val"),
    ],
)
def test_questions_that_cannot_come_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(SECTIONS, changes)


def test_bounds_on_what_the_task_does_not_measure_are_refused(store):
    with pytest.raises(ValueError, match="metric='r2' is not measured in a multiclass task"):
        run(store, Person(), **{"approvals.quality": [{"metric": "r2"}]})


def test_who_is_asked_is_not_in_the_config_digest():
    assert make_config(SECTIONS).digest == make_config({**SECTIONS, "approvals": {}}).digest
