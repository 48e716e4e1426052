"""A site's policy file: nothing by default, one reading, bounds, and what it says in sentences."""

from pathlib import Path

import pytest

from fedcore.sites.policy import (
    ByHand,
    ByRule,
    Exact,
    Policy,
    PolicyError,
    Rounded,
    Withhold,
    load_policy,
)
from fedcore.sites.policy_words import explain

CODE = "c" * 64
OPEN = f"""
runs: [heart-*]
purposes: [heart-disease]
jobs: [train, evaluate, audit, statistics, prepare]
approval: {{kind: by_rule, code: [{CODE}]}}
statistics: [count, mean]
clip_norm: 2.0
noise_stddev: 0.5
metrics: {{kind: rounded, decimals: 1}}
"""


def load(tmp_path: Path, text: str) -> Policy:
    (tmp_path / "policy.yaml").write_text(text)
    return load_policy(tmp_path / "policy.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "version: 1"])
def test_an_empty_file_allows_nothing(tmp_path, text):
    policy = load(tmp_path, text)
    assert policy == Policy()
    assert (policy.runs, policy.purposes, policy.jobs, policy.statistics) == ((), (), (), ())
    assert isinstance(policy.approval, ByHand) and isinstance(policy.metrics, Withhold)
    assert policy.identifiers == "hashed" and policy.logs_to_api is False
    assert len(explain(policy)) == 1 and explain(policy)[0].startswith("Nothing leaves")


def test_a_whole_file_is_read(tmp_path):
    policy = load(tmp_path, OPEN)
    assert policy.approval == ByRule(code=(CODE,)) and policy.metrics == Rounded(decimals=1)
    assert policy.clip_norm == 2.0 and policy.digest != Policy().digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: [a]\nruns: ['*']", r"policy\.yaml is not valid YAML: key 'runs' stands more than"),
        ("runs: [a", "not valid YAML"),
        ("- runs", "must hold keys such as runs: and jobs:"),
        ("run: [a]", r"run: unknown key; did you mean runs\?"),
        ("runs: a", "runs: Input should be a valid tuple"),
        ("runs: ['a b']", r"runs\.0: String should match pattern"),
        ("jobs: [trian]", r"jobs\.0: Input should be 'train', 'evaluate'"),
        ("version: 2", "version: Input should be 1"),
        ("approval: by_hand", "approval"),
        ("approval: {kind: by_rule, code: [abc]}", "should match pattern"),
        ("approval: {kind: nobody}", r"kind 'nobody' does not exist; one of by_hand, by_rule"),
        ("minimum_examples: 0", "minimum_examples: Input should be greater than or equal to 1"),
        ("minimum_examples: true", "minimum_examples: Input should be a valid integer"),
        ("minimum_group: '10'", "minimum_group: Input should be a valid integer"),
        ("rounds_per_day: -1", "greater than or equal to 0"),
        ("answers_per_round: 0", "greater than or equal to 1"),
        ("max_bytes: 1.5", "max_bytes: Input should be a valid integer"),
        ("clip_norm: 0", r"clip_norm: Input should be greater than or equal to 0.000001"),
        ("clip_norm: .nan", "clip_norm"),
        ("noise_stddev: .inf", "noise_stddev"),
        ("noise_stddev: 1.0", "noise_stddev=1.0 hides nothing .*: set clip_norm too"),
        ("metrics: {kind: rounded, decimals: 7}", "decimals: Input should be less than or equal"),
        ("metrics: {kind: exact, decimals: 2}", "decimals: unknown key"),
        ("metric_names: ['Mrs Smith']", "should match pattern"),
        ("identifiers: none", "identifiers: Input should be 'hashed' or 'plain'"),
        ("logs_to_api: 1", "logs_to_api: Input should be a valid boolean"),
    ],
)
def test_what_is_against_a_rule_is_named(tmp_path, text, message):
    with pytest.raises(PolicyError, match=message) as caught:
        load(tmp_path, text)
    assert "policy.yaml" in str(caught.value)


def test_every_problem_is_named_at_once(tmp_path):
    with pytest.raises(PolicyError, match=r"(?s)runs:.*clip_norm:"):
        load(tmp_path, "runs: 3\nclip_norm: -1")


def test_a_missing_file_is_no_policy(tmp_path):
    with pytest.raises(PolicyError, match=r"policy\.yaml: cannot be read: No such file"):
        load_policy(tmp_path / "policy.yaml")


def test_every_field_says_what_it_is():
    for member in (Policy, ByRule, Rounded):
        for name, field in member.model_fields.items():
            assert name == "kind" or len(field.description or "") > 20, name


SAID = [
    ({"runs": ()}, "no run is allowed", "Answered are"),
    ({"purposes": ()}, "no purpose is allowed", "Answered are"),
    ({"jobs": ()}, "no kind of work is allowed", "Answered are"),
    ({"rounds_per_day": 0}, "rounds_per_day is 0", "Answered are"),
    ({}, "runs heart-* for the purposes heart-disease", "Nothing leaves"),
    ({}, "one of 1 accepted program versions", "A person at this site"),
    ({"approval": ByRule()}, "No program version is accepted", "Only runs"),
    ({"approval": ByHand()}, "A person at this site approves each run", "accepted program"),
    ({}, "L2 norm of at most 2, with Gaussian noise of standard deviation 0.5", "of any size"),
    ({"clip_norm": None, "noise_stddev": 0.0}, "of any size, without noise", "Gaussian"),
    ({"minimum_examples": 77}, "at least 77.", "at least 10."),
    ({"minimum_group": 33}, "at least 33)", "at least 10)"),
    ({}, "rounded to 1 decimals", "exactly."),
    ({"metrics": Exact()}, "r2) leave exactly.", "rounded"),
    ({"metrics": Withhold()}, "Evaluations are not answered", "leave rounded"),
    ({"metric_names": ("auc",)}, "(auc)", "accuracy"),
    ({"statistics": ()}, "No statistics leave", "Statistics named"),
    ({"statistics": ("*",)}, "of any name", "count or mean"),
    ({"jobs": ("train",)}, "From training", "From evaluation"),
    ({"jobs": ("evaluate",)}, "From evaluation", "From training"),
    ({"jobs": ("statistics",)}, "Statistics named", "description of the data"),
    ({"jobs": ("audit",)}, "leaves a description of the data", "From"),
    ({}, "leave as keyed fingerprints", "as they are"),
    ({"identifiers": "plain"}, "leave as they are", "as keyed fingerprints"),
    ({}, "Log messages stay here.", "console"),
    ({"logs_to_api": True}, "Log messages go to the coordinator", "stay here"),
    ({"rounds_per_day": 5, "answers_per_round": 3, "max_bytes": 99}, "5 rounds", "8 answers"),
]


@pytest.mark.parametrize(("changes", "said", "not_said"), SAID)
def test_sentences_follow_the_policy(tmp_path, changes, said, not_said):
    policy = Policy.model_validate(load(tmp_path, OPEN).model_dump() | changes)
    text = " ".join(explain(policy))
    assert said in text and not_said not in text
