import pytest

from fedcore.absences import STATUS, missed, told
from fedcore.chain import RoundRecord
from fedcore.events import EventType, Role
from fedcore.refs import Ref


def record(round, **statuses):
    """A round that asked these clients, with what became of each."""
    model = Ref("0" * 64, 1, "params")
    rows = {
        client: {"status": status, "reason": f"{status} in {round}"}
        for client, status in statuses.items()
    }
    return RoundRecord(round, "p", "q", model, tuple(sorted(rows)), rows, model, None)


def facts(records):
    """Those of each round."""
    counts, found = {}, []
    for one in records:
        counts = missed(counts, one)
        found.append([(fact.node_id, fact.status) for fact in told(one, counts)])
    return found


def test_three_rounds_in_a_row_are_told_once():
    rounds = [record(n, a="failed", b="done") for n in range(1, 6)]
    assert facts(rounds) == [[], [], [("a", STATUS)], [], []]


def test_a_round_that_works_starts_anew():
    how = ["failed", "absent", "done", "failed", "refused", "failed"]
    rounds = [record(n, a=status) for n, status in enumerate(how, 1)]
    assert facts(rounds) == [[], [], [], [], [], [("a", STATUS)]]


def test_rounds_that_did_not_ask_do_not_count():
    rounds = [
        record(1, a="failed"),
        record(2, b="done"),
        record(3, a="failed"),
        record(4, a="failed"),
    ]
    assert facts(rounds)[-1] == [("a", STATUS)]


def test_the_fact_is_the_clients_and_says_why():
    counts = {"a": 2}
    last = record(3, a="absent")
    (fact,) = told(last, missed(counts, last))
    assert (fact.type, fact.role, fact.round) == (EventType.NODE_ERROR, Role.CLIENT, 3)
    assert fact.message == "missed 3 rounds in a row; the last time: absent in 3"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_counts_are_not_told(count):
    last = record(9, a="failed")
    assert list(told(last, missed({"a": count}, last))) == []
