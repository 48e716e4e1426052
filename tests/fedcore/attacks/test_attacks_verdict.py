"""What a privacy audit says of a claim."""

import math
import re

import pytest
from pydantic import ValidationError

from fedcore.attacks.one_run import OneRun
from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.attacks.verdict import Verdict


def bound(epsilon):
    return OneRun(epsilon, 1e-5, 0.95, 1000, 500, 480)


@pytest.mark.parametrize(
    ("claimed", "found", "twin", "passed", "word", "says"),
    [
        (3.0, 0.8, 4.4, True, "not refuted", "PASS: the training claims epsilon 3.00 at delta 1e"),
        (3.0, 3.2, 4.4, False, "refuted", "FAIL: .* at least 3.20 at 95% confidence"),
        (8.0, 0.8, 4.4, True, "inconclusive", "PASS, but this audit proves nothing: .* only 4.40"),
        (math.inf, 4.4, 4.4, True, "nothing claimed", "nothing is claimed; epsilon is at least"),
    ],
)
def test_the_verdict_compares_with_the_claim(claimed, found, twin, passed, word, says):
    verdict = Verdict(claimed, bound(found), bound(twin))
    assert (verdict.passed, verdict.word) == (passed, word)
    value = verdict.to_json()
    assert Verdict.from_json(value | {"passed": not passed, "verdict": "PASS"}) == verdict
    assert value["bound"]["epsilon"] == found
    assert value["claimed"] == (None if math.isinf(claimed) else claimed)
    assert re.search(says, value["verdict"])


@pytest.mark.parametrize("models", [2, 7])
def test_shadow_models_are_even(models):
    with pytest.raises(ValidationError, match=f"shadow_models={models} must be even"):
        PrivacyAuditSettings(shadow_models=models)
    assert PrivacyAuditSettings(shadow_models=0).shadow_models == 0
