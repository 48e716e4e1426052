"""Inputs that fuzzing once found interesting, kept in ``corpus/``: each is refused by the same code
as then, and what is near it is refused or read, and never anything else.

One file for each reader of what comes from outside; a line has the input, a character for each
byte, and the refusal that it gets, "" where it is read. What fuzzing finds is added as a line.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.digests import canonical_json, digest_bytes
from fedcore.jobs import JobKind
from fedcore.refs import Ref
from fedcore.sites.admit import Expected, admit, admit_facts, seal_context
from fedcore.sites.announcement import read_announcement
from fedcore.sites.description import read_description
from fedcore.sites.envelope import Envelope, open_envelope
from fedcore.sites.identity import Identity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import Reply
from fedcore.sites.request import read_request
from fedcore.sites.sealing import seal
from fedcore.sites.site_statistics import read_statistics
from fedcore.sites.strict_json import parse
from fedcore.sites.wanted import Wanted
from fedcore.sites.wire_tensors import template_of

CORPUS = Path(__file__).parent / "corpus"
MOST = 2**20


def always_the_same(name, byte):
    """Keys of nobody, so that a signature in the corpus is still the right one."""
    key = bytes([byte]) * 32
    return Identity(
        name, Ed25519PrivateKey.from_private_bytes(key), X25519PrivateKey.from_private_bytes(key)
    )


WARD, CENTRE = always_the_same("ward", 1), always_the_same("coordinator", 2)
MODEL = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
# What the boundary looks at; the key of a real job changes with what is in it.
JOB: Any = SimpleNamespace(
    kind=JobKind.TRAIN, client="ward", key="f" * 64, base=Ref("b" * 64, 99, "model")
)
EXPECTED = Expected("run-1", JOB, template_of(MODEL), most_examples=50, most_norm=10.0)
ASKED = "e" * 64
WANTED = Wanted(("age", "crp"), ("no", "yes"), {"age": (0.0, 50.0)})


def signed(kind, content, sender=WARD, recipient=CENTRE):
    return Envelope(kind, sender.name, recipient.name, "run-1", content).signed_by(sender)


def nothing_there(ref):
    raise Refusal(Reason.MISSING_BLOB, ref.kind)


def sealed(data, key, **fields):
    """A site's answer with these bytes in it, and a reader of its outbox."""
    blob = seal(data, CENTRE.public, seal_context("run-1", key))
    reply = Reply(
        key,
        "done",
        sealed=Ref(digest_bytes(blob), len(blob), "sealed"),
        plain=Ref(digest_bytes(data), len(data), "plain"),
        **fields,
    )
    return signed("reply", reply.to_json()), lambda ref: blob


def read_update(data):
    sent, fetch = sealed(data, JOB.key, base=JOB.base.digest, num_examples=40)
    admit(sent, fetch, EXPECTED, WARD.public, CENTRE)


def read_facts(data):
    sent, fetch = sealed(data, ASKED)
    return admit_facts(
        sent, fetch, run="run-1", key=ASKED, attempt=0, site=WARD.public, coordinator=CENTRE
    ).facts


def content_of(kind, sender, recipient):
    def read(data):
        sent = signed(kind, an_object(data), sender, recipient)
        return open_envelope(
            sent, sender=sender.public, recipient=recipient.name, run="run-1"
        ).content

    return read


def an_object(data):
    value = parse(data, most_bytes=MOST)
    if not isinstance(value, dict):
        raise Refusal(Reason.SCHEMA, "no object")
    return value


READERS = {
    "envelope": lambda data: admit(data, nothing_there, EXPECTED, WARD.public, CENTRE),
    "reply": lambda data: admit(
        signed("reply", an_object(data)), nothing_there, EXPECTED, WARD.public, CENTRE
    ),
    "update": read_update,
    "description": lambda data: read_description(read_facts(data), "ward"),
    "statistics": lambda data: read_statistics(read_facts(data), WANTED),
    "announcement": lambda data: read_announcement(content_of("announcement", CENTRE, WARD)(data)),
    "request": lambda data: read_request(an_object(data)),
}


def lines():
    for name in READERS:
        text = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            kept = json.loads(line)
            yield name, number, kept["input"].encode("latin-1"), kept["refusal"]


KEPT = list(lines())


def what_becomes(name, data):
    try:
        READERS[name](data)
    except Refusal as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("name", READERS)
def test_each_input_is_refused_by_the_code_that_it_was(name):
    mine = [(number, data, refusal) for of, number, data, refusal in KEPT if of == name]
    assert len(mine) >= 5 and any(not refusal for _, _, refusal in mine)
    found = {number: what_becomes(name, data) for number, data, _ in mine}
    assert found == {number: refusal for number, _, refusal in mine}


def test_every_code_of_an_answer_is_in_the_corpus():
    """But those of what surrounds it: the registry, the mailbox and the round."""
    around = {"revoked", "replayed", "late", "altered_blob", "seal"}
    codes = {refusal.partition(":")[0] for _, _, _, refusal in KEPT} - {""}
    assert codes == {reason.value for reason in Reason} - around


@settings(max_examples=150)
@given(st.sampled_from(KEPT), st.data())
def test_what_is_near_is_refused_or_read(kept, draw):
    name, _, data, _ = kept
    for _ in range(draw.draw(st.integers(1, 3))):
        start = draw.draw(st.integers(0, len(data)))
        end = draw.draw(st.integers(start, min(len(data), start + 8)))
        data = data[:start] + draw.draw(st.binary(max_size=8)) + data[end:]
    said = what_becomes(name, data)
    assert not said or said.partition(":")[0] in {reason.value for reason in Reason}


def test_the_corpus_has_one_reading():
    for name, number, data, refusal in KEPT:
        line = (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[number - 1]
        assert line == canonical_json({"input": data.decode("latin-1"), "refusal": refusal})
