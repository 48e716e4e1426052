"""The trust boundary: one good answer, and every way of not being one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedcore.digests import canonical_json, digest_bytes
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import Done, Failed, Refused
from fedcore.refs import Ref
from fedcore.sites.admit import Expected, admit, admit_facts, seal_context
from fedcore.sites.envelope import Envelope
from fedcore.sites.identity import new_identity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import Reply
from fedcore.sites.sealing import seal
from fedcore.sites.wire_tensors import template_of
from fedcore.tensors import encode

WARD, OTHER, CENTRE = new_identity("ward"), new_identity("other"), new_identity("coordinator")
MODEL = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
JOB = ClientJob(
    JobKind.TRAIN,
    "ward",
    2,
    0,
    Ref("b" * 64, 99, "model"),
    Ref("d" * 64, 9, "shard"),
    {},
    {},
    "c",
    {},
)
EXPECTED = Expected("run-1", JOB, template_of(MODEL), most_examples=50, most_norm=10.0)
BLOBS = {}


def left(data):
    """A blob in the site's outbox."""
    ref = Ref(digest_bytes(data), len(data), "sealed")
    BLOBS[ref.digest] = data
    return ref


def fetch(ref):
    data = BLOBS[ref.digest]
    assert len(data) >= ref.size
    return data[: ref.size]


def update(arrays=MODEL, job=JOB, run="run-1", reader=CENTRE, plain=None, **changes):
    plain = encode(arrays) if plain is None else plain
    fields = {
        "base": job.base.digest,
        "num_examples": 40,
        "metrics": {"loss": 0.5},
        "sealed": left(seal(plain, reader.public, seal_context(run, job.key))),
        "plain": Ref(digest_bytes(plain), len(plain), "plain"),
        **changes,
    }
    return Reply(job.key, "done", **fields)


def sent(reply, key=WARD, **changes):
    fields = {"kind": "reply", "sender": "ward", "recipient": "coordinator", "run": "run-1"}
    content = reply.to_json() if isinstance(reply, Reply) else reply
    return Envelope(**{**fields, **changes}, content=content).signed_by(key)


def answer(data, expected=EXPECTED):
    return admit(data, fetch, expected, WARD.public, CENTRE)


def test_a_good_update_is_an_outcome_under_the_announced_key():
    admitted = answer(sent(update(seconds=2.5)))
    assert admitted.delta == encode(MODEL)
    done = admitted.outcome
    assert isinstance(done, Done) and (done.client, done.key) == ("ward", JOB.key)
    assert done.result.delta == Ref(digest_bytes(encode(MODEL)), len(encode(MODEL)), "delta")
    assert (done.result.num_examples, done.result.metrics) == (40, {"loss": 0.5})
    assert done.seconds == 2.5


def test_a_site_may_say_no_by_a_code():
    said = answer(sent(Reply(JOB.key, "refused", code="minimum_examples"))).outcome
    assert said == Refused("ward", JOB.key, "minimum_examples")
    said = answer(sent(Reply(JOB.key, "failed", code="diverged"))).outcome
    assert said == Failed("ward", JOB.key, "diverged")


def test_an_evaluation_is_few_numbers():
    job = replace(JOB, kind=JobKind.EVALUATE)
    expected = replace(EXPECTED, job=job, template={})
    good = Reply(job.key, "done", num_examples=9, metrics={"loss": 1.0})
    assert answer(sent(good), expected).outcome.result.metrics == {"loss": 1.0}
    with pytest.raises(Refusal, match="schema: evaluation"):
        answer(sent(replace(good, sealed=left(b"scores"))), expected)


def said(facts, key="e" * 64, **changes):
    plain = canonical_json(facts).encode()
    reply = Reply(
        key,
        "done",
        sealed=left(seal(plain, CENTRE.public, seal_context("run-1", key))),
        plain=Ref(digest_bytes(plain), len(plain), "plain"),
    )
    data = sent(replace(reply, **changes))
    return admit_facts(
        data, fetch, run="run-1", key="e" * 64, attempt=0, site=WARD.public, coordinator=CENTRE
    )


def test_facts_are_an_object_and_nothing_beside_it():
    assert said({"sizes": {"train": 3}}).facts == {"sizes": {"train": 3}}
    no = said({}, status="refused", code="not_approved")
    assert (no.facts, no.code) == (None, "not_approved")
    for facts, changes, reason in (
        ([1], {}, "schema: facts"),
        ({}, {"num_examples": 3}, "schema: facts"),
        ({}, {"base": "b" * 64}, "schema: facts"),
        ({}, {"attempt": 1}, "other_job"),
        ({}, {"key": "f" * 64}, "other_job"),
        ({}, {"sealed": None}, "schema: sealed"),
        ({}, {"sealed": Ref("a" * 64, 2**40, "sealed")}, "too_large"),
        ({"a": 1}, {"plain": Ref("a" * 64, 7, "plain")}, "altered_blob"),
    ):
        with pytest.raises(Refusal, match=f"^{reason}"):
            said(facts, **changes)


NOT_FINITE = {**MODEL, "b": np.array([0, np.inf, 0], np.float32)}
LARGE = {**MODEL, "w": np.full((2, 3), 9, np.float32)}
ANOTHER = replace(JOB, round=3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: sent(update(), key=OTHER), "signature"),
        (lambda: sent(update(), key=OTHER, sender="other"), "signature"),
        (lambda: sent(update(), run="run-2"), "other_run"),
        (lambda: sent(update(), kind="announcement"), "schema: kind"),
        (lambda: sent(update(job=ANOTHER)), "other_job"),
        (lambda: sent(replace(update(job=ANOTHER), key=JOB.key)), "seal"),
        (lambda: sent(update(run="run-2")), "seal"),
        (lambda: sent(update(reader=OTHER)), "seal"),
        (lambda: sent(update(base="a" * 64)), "other_base"),
        (lambda: sent(update(num_examples=51)), "examples"),
        (lambda: sent(update(num_examples=0)), "examples"),
        (lambda: sent(update(sealed=None)), "schema: sealed"),
        (lambda: sent(update(plain=b"short")), "tensors: header"),
        (lambda: sent(replace(update(), plain=Ref("e" * 64, 5, "plain"))), "altered_blob"),
        (lambda: sent(replace(update(), sealed=Ref("e" * 64, 2**40, "sealed"))), "too_large"),
        (lambda: sent(update({"w": MODEL["w"]})), "tensors: names"),
        (lambda: sent(update({**MODEL, "w": MODEL["w"].T})), "tensors: w"),
        (lambda: sent(update({**MODEL, "w": MODEL["w"].astype(np.float64)})), "tensors: w"),
        (lambda: sent(update(NOT_FINITE)), "not_finite: b"),
        (lambda: sent(update(LARGE)), "norm"),
        (lambda: b"x" * 2**20, "too_large"),
    ],
)
def test_what_is_not_the_answer_is_refused_by_a_code(make, reason):
    with pytest.raises(Refusal, match=f"^{reason}"):
        answer(make())


GOOD = sent(update())


@settings(max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@example(0, 1)
@example(len(GOOD) - 1, 1)
def test_one_changed_byte_is_refused(place, change):
    changed = GOOD[:place] + bytes([GOOD[place] ^ change]) + GOOD[place + 1 :]
    with pytest.raises(Refusal):
        answer(changed)


PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=5)
JSON = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.text(max_size=5), PLAIN, max_size=2)


@settings(max_examples=30)
@given(st.sampled_from(sorted(update().to_json())), JSON)
@example("metrics", {"loss": True})
@example("sealed", {"digest": 64 * "a", "size": False})
@example("num_examples", 1.0)
@example("attempt", 1)
def test_a_signed_reply_with_any_field_is_the_same_outcome_or_a_refusal(field, value):
    """A site that is registered may be hostile too: its signature makes nothing true."""
    content = update().to_json()
    content[field] = value
    try:
        admitted = answer(sent(json.loads(canonical_json(content))))
    except Refusal as refusal:
        assert isinstance(refusal.reason, Reason)
        assert not isinstance(value, str) or len(value) < 2 or value not in str(refusal)
        return
    if isinstance(admitted.outcome, Done):
        assert admitted.delta == encode(MODEL) and 0 < admitted.outcome.result.num_examples <= 50
