import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.digests import canonical_json
from fedcore.sites.announcement import Announcement, Ask, read_announcement
from fedcore.sites.envelope import Envelope, open_envelope
from fedcore.sites.identity import (
    IdentityError,
    PublicIdentity,
    load_identity,
    new_identity,
    save_identity,
)
from fedcore.sites.mailbox import Lane, Mailbox
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.registry import SiteRegistry, UnknownSite
from fedcore.sites.reply import Reply, read_reply
from fedcore.sites.sealing import OVERHEAD, seal, unseal
from fedcore.sites.strict_json import parse
from fedcore.sites.wire_tensors import decode_exactly, template_of
from fedcore.store import Store
from fedcore.tensors import encode

WARD, OTHER, CENTRE = new_identity("ward"), new_identity("other"), new_identity("coordinator")
MODEL = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32), "n": np.array(2)}


def refusal(reason, what=None):
    return pytest.raises(Refusal, match=f"^{reason}" + (f": {what}$" if what else ""))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":2}', "not_json"),
        (b'{"a":NaN}', "not_json"),
        (b"[1e999]", "not_json"),
        (b"[9223372036854775808]", "not_json"),
        (b"[" * 13 + b"]" * 13, "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'"\\ud800"', "not_json"),
        (b"\xff", "not_json"),
        (b"", "not_json"),
        (b"1" * 70_000, "too_large"),
    ],
    ids=[str(n) for n in range(10)],
)
def test_a_text_with_two_readings_is_refused(text, reason):
    with refusal(reason):
        parse(text, most_bytes=2**17 if reason == "not_json" else 2**16)


def test_brackets_in_strings_have_no_depth():
    assert parse(b'["[[[[[[[[[[\\"[[[["]', most_bytes=99) == ['[[[[[[[[[["[[[[']


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_refusal(data):
    for read in (
        lambda: parse(data, most_bytes=100),
        lambda: open_envelope(data, sender=WARD.public, recipient="coordinator", run="r"),
        lambda: decode_exactly(data, template_of(MODEL)),
        lambda: unseal(data, CENTRE, b""),
    ):
        with suppress(Refusal):
            read()


def test_an_envelope_comes_through_and_nothing_else_does():
    sent = Envelope("reply", "ward", "coordinator", "run-1", {"x": [1.5, "ä"]}).signed_by(WARD)
    expect = {"sender": WARD.public, "recipient": "coordinator", "run": "run-1"}
    assert open_envelope(sent, **expect).content == {"x": [1.5, "ä"]}
    for change, reason in (
        ({"sender": OTHER.public}, "signature"),
        ({"recipient": "ward"}, "wrong_recipient"),
        ({"run": "run-2"}, "other_run"),
    ):
        with refusal(reason):
            open_envelope(sent, **{**expect, **change})
    with refusal("unknown_sender"):  # a good signature under another name
        posing = Envelope("reply", "other", "coordinator", "run-1").signed_by(WARD)
        open_envelope(posing, **expect)
    value = json.loads(sent)
    value["envelope"]["content"]["x"] = [1.5, "b"]
    with refusal("signature"):
        open_envelope(canonical_json(value).encode(), **expect)
    with refusal("schema"):  # one encoding only
        open_envelope(json.dumps(json.loads(sent)).encode(), **expect)


def test_what_is_sealed_opens_for_one_reader_in_one_context():
    sealed = seal(b"weights", CENTRE.public, b"round 3")
    assert len(sealed) == len(b"weights") + OVERHEAD
    assert unseal(sealed, CENTRE, b"round 3") == b"weights"
    assert seal(b"weights", CENTRE.public, b"round 3") != sealed
    for data, reader, context in (
        (sealed, OTHER, b"round 3"),
        (sealed, CENTRE, b"round 4"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), CENTRE, b"round 3"),
        (bytes(32) + sealed[32:], CENTRE, b"round 3"),  # a key of small order
    ):
        with refusal("seal"):
            unseal(data, reader, context)


def test_keys_are_written_once_and_for_their_owner(tmp_path):
    path = tmp_path / "identity.json"
    save_identity(WARD, path)
    assert load_identity(path).public == WARD.public
    assert "ward" in repr(WARD) and WARD.signing.private_bytes_raw().hex() not in repr(WARD)
    with pytest.raises(FileExistsError):
        save_identity(OTHER, path)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="others can read"):
        load_identity(path)
    with pytest.raises(IdentityError, match="site init"):
        load_identity(tmp_path / "absent")
    with pytest.raises(IdentityError, match="first a letter"):
        new_identity("../ward")
    with pytest.raises(IdentityError, match="64 lower-case hex"):
        PublicIdentity("ward", "00", WARD.public.sealing)


def _body(header, payload):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def _header(**changes):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return {"w": entry}


def test_tensors_come_through_as_they_were():
    found = decode_exactly(encode(MODEL), template_of(MODEL))
    assert all(np.array_equal(found[name], MODEL[name]) for name in MODEL)


@pytest.mark.parametrize(
    ("data", "reason"),
    TENSORS := [
        (_body(_header(), b"\0" * 8)[:-1], "tensors: w"),
        (_body(_header(), b"\0" * 9), "tensors: length"),
        (_body(_header(shape=[1, 2]), b"\0" * 8), "tensors: w"),
        (_body(_header(shape=[True, 2]), b"\0" * 8), "tensors: w"),
        (_body(_header(dtype="F64"), b"\0" * 8), "tensors: w"),
        (_body(_header(data_offsets=[4, 12]), b"\0" * 12), "tensors: w"),
        (_body(_header(data_offsets=[0, 2**62]), b"\0" * 8), "tensors: w"),
        (_body(_header(data_offsets="no"), b"\0" * 8), "tensors: offsets"),
        (_body(_header(more=1), b"\0" * 8), "tensors: w"),
        (_body({**_header(), "__metadata__": {}}, b"\0" * 8), "tensors: names"),
        (_body({}, b""), "tensors: names"),
        (_body([], b""), "tensors: names"),
        ((2**63).to_bytes(8, "little"), "tensors: header"),
        (_body(_header(), np.array([1, np.nan], np.float32).tobytes()), "not_finite: w"),
        (_body(_header(), b"\0" * 8 + b" " * 2**21), "too_large: update"),
    ],
    ids=[str(n) for n in range(len(TENSORS))],
)
def test_tensors_that_are_not_exactly_the_models_are_refused(data, reason):
    with refusal(reason):
        decode_exactly(data, template_of({"w": np.zeros(2, np.float32)}))


def test_a_mailbox_is_written_once_and_read_up_to_a_bound(tmp_path):
    mailbox = Mailbox(Store(tmp_path))
    assert mailbox.read("to/ward/a", 5) is None
    assert mailbox.post("to/ward/a", b"first") and not mailbox.post("to/ward/a", b"other")
    assert mailbox.read("to/ward/a", 5) == b"first"
    with refusal("too_large"):
        mailbox.read("to/ward/a", 4)
    ref = mailbox.post_blob("all/run", b"model", "model")
    assert mailbox.read_blob("all/run", ref) == b"model"
    (tmp_path / "all/run" / ref.digest).write_bytes(b"mode!")
    with refusal("altered_blob"):
        mailbox.read_blob("all/run", ref)
    assert mailbox.clear("all") == 1
    with refusal("missing_blob"):
        mailbox.read_blob("all/run", ref)


def test_both_ends_derive_the_same_names_and_nobody_else_does():
    here = Lane.between(WARD, CENTRE.public, site="ward", run="r", opening=1)
    there = Lane.between(CENTRE, WARD.public, site="ward", run="r", opening=1)
    third = Lane.between(OTHER, CENTRE.public, site="ward", run="r", opening=1)
    again = Lane.between(WARD, CENTRE.public, site="ward", run="s", opening=1)
    assert here.reply("job") == there.reply("job")
    assert here.announcement(1) == there.announcement(1) != here.announcement(2)
    later = Lane.between(WARD, CENTRE.public, site="ward", run="r", opening=2)
    names = {one.reply("job").rsplit("/")[-1] for one in (here, third, again, later)}
    assert len(names) == 4


GOOD = Reply("a" * 64, "done", num_examples=3, metrics={"loss": 0.5}).to_json()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "../../etc"}, "schema: key"),
        ({"key": 1}, "schema: key"),
        ({"attempt": True}, "schema: attempt"),
        ({"status": "absent"}, "schema: status"),
        ({"status": "failed", "code": "Row 7 of patients.csv"}, "schema: code"),
        ({"code": "free"}, "schema: code"),
        ({"base": "b"}, "schema: base"),
        ({"num_examples": True}, "examples"),
        ({"num_examples": -1}, "examples"),
        ({"num_examples": 1.0}, "examples"),
        ({"metrics": {"loss": "low"}}, "metrics"),
        ({"metrics": {"the loss of Mr K": 1.0}}, "metrics"),
        ({"metrics": {f"m{n}": 0 for n in range(33)}}, "metrics"),
        ({"sealed": {"digest": "c" * 64, "size": -1}}, "schema: sealed"),
        ({"sealed": {"digest": "c" * 64, "size": 1, "path": "x"}}, "schema: sealed"),
        ({"seconds": -1}, "schema: seconds"),
        ({"more": 1}, "schema: reply"),
    ],
)
def test_a_reply_has_one_schema(change, reason):
    assert read_reply(GOOD).to_json() == GOOD
    with refusal(reason):
        read_reply({**GOOD, **change})


def test_an_announcement_has_one_schema():
    train = Announcement(Ask.TRAIN, 1, "a" * 64, None).to_json()
    train["base"] = {"digest": "b" * 64, "size": 10}
    assert read_announcement(train).to_json() == train
    asked = Announcement(Ask.AUDIT, facts={"config": {}})
    assert read_announcement(asked.to_json()) == asked
    for change in (
        {"ask": "run"},
        {"round": True},
        {"round": -1},
        {"attempt": 0.5},
        {"job": ""},
        {"split": "test"},
        {"base": None},
        {"base": {"digest": "b" * 64, "size": True}},
        {"facts": {"command": "rm"}},
    ):
        with refusal(Reason.SCHEMA):
            read_announcement({**train, **change})


def test_sites_are_registered_rotated_and_revoked(tmp_path):
    registry = SiteRegistry(tmp_path)
    registry.register(WARD.public, 100)
    with pytest.raises(FileExistsError):
        registry.register(WARD.public, 100)
    with pytest.raises(UnknownSite, match=r"'other' is registered; registered are \['ward'\]"):
        registry.site("other")
    assert registry.revoke("ward").status == "revoked"
    new = PublicIdentity("ward", OTHER.public.signing, OTHER.public.sealing)
    rotated = registry.rotate(new)
    assert rotated.former == (WARD.public.fingerprint,) and rotated.status == "active"
    assert registry.sites() == {"ward": rotated}
    (tmp_path / "ward.json").write_text("{}")
    with pytest.raises(IdentityError, match="damaged"):
        registry.sites()
