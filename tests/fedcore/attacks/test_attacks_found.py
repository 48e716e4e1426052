"""What all attacks found, as it is kept."""

import pytest

from fedcore.attacks.found import Found, found_by, note
from fedcore.attacks.one_run import OneRun
from fedcore.attacks.verdict import Verdict

CLAIM = Verdict(
    3.0, OneRun(0.8, 1e-5, 0.95, 1000, 500, 300), OneRun(4.4, 1e-5, 0.95, 1000, 500, 480)
).to_json() | {"client": "north"}
PICTURE = {"digest": "0" * 64, "size": 9, "kind": "picture"}
ALL = {
    "claim": CLAIM,
    "membership": {"auc": {"estimate": 0.52}},
    "reconstruction": {"rows": [{"cosine": 0.1}, {"cosine": 0.3}], "picture": PICTURE},
}


def test_it_is_read_back_from_what_each_attack_left():
    kept = {note(name): value for name, value in ALL.items()}
    found = found_by(kept.get)
    assert found == Found.from_json(ALL) and found.json == ALL
    assert (found.client, found.auc, found.cosine) == ("north", 0.52, 0.3)
    assert found.picture.digest == "0" * 64
    told = dict(found.rows())
    assert told["claimed epsilon"] == "3.00"
    assert told["one run with canaries"] == "epsilon at least 0.80 at 95% confidence"


@pytest.mark.parametrize("left_out", ["membership", "reconstruction"])
def test_an_attack_that_was_left_out_says_nothing(left_out):
    some = {name: value for name, value in ALL.items() if name != left_out}
    assert len(Found.from_json(some).rows()) == 4
    assert found_by({note("membership"): ALL["membership"]}.get) is None
