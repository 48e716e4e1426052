"""The trust boundary: bytes from outside become a valid answer, or a refusal with a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedcore.digests import canonical_json, digest_bytes
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation, Failed, Refused
from fedcore.refs import Ref
from fedcore.sites.envelope import open_envelope
from fedcore.sites.identity import Identity, PublicIdentity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import Reply, read_reply
from fedcore.sites.sealing import OVERHEAD, unseal
from fedcore.sites.strict_json import parse
from fedcore.sites.wire_tensors import Template, decode_exactly, most_bytes, norm

Fetch = Callable[[Ref], bytes]
"""Reads a blob of the site's outbox, no more than its claimed size; raises Refusal."""

# Facts are a few numbers and, of each sample, a hash: a million samples.
MOST_FACTS = 40 * 2**20


@dataclass(frozen=True)
class Expected:
    """What the coordinator waits for from one site.

    Attributes:
      run: id of the run.
      job: as it was announced.
      template: of the model, for training jobs.
      most_examples: what the site registered.
      most_norm: bound on an update's Euclidean norm.
      attempt: of the announcement.
    """

    run: str
    job: ClientJob
    template: Template
    most_examples: int
    most_norm: float
    attempt: int = 0


@dataclass(frozen=True)
class Admitted:
    """An accepted answer.

    Attributes:
      outcome: of the job.
      delta: safetensors bytes of the update that the outcome names; empty where it has none.
      sealed: where they lay in the mailbox, or None.
    """

    outcome: ClientOutcome
    delta: bytes = b""
    sealed: Ref | None = None


@dataclass(frozen=True)
class Told:
    """What a site said of itself.

    Attributes:
      facts: a JSON object, not yet read against any schema; None where there is only a code.
      code: why there are none.
      sealed: where they lay in the mailbox, or None.
    """

    facts: dict[str, Any] | None
    code: str = ""
    sealed: Ref | None = None


def admit(
    data: bytes, fetch: Fetch, expected: Expected, site: PublicIdentity, coordinator: Identity
) -> Admitted:
    """The outcome in a reply's bytes.

    Nothing in the message is believed before the signature was checked, no path and no name is
    taken from it, and nothing is read or allocated beyond what the job's own template needs.

    Raises:
      Refusal: the first thing that does not fit, by code.
    """
    job = expected.job
    reply = _reply(data, expected.run, job.key, expected.attempt, site, coordinator)
    if reply.status == "refused":
        return Admitted(Refused(job.client, job.key, reply.code))
    if reply.status == "failed":
        return Admitted(Failed(job.client, job.key, reply.code))
    if not 0 < reply.num_examples <= expected.most_examples:
        raise Refusal(Reason.EXAMPLES, "num_examples")
    if job.kind is JobKind.EVALUATE:
        if reply.sealed or reply.plain:
            raise Refusal(Reason.SCHEMA, "evaluation")
        result = Evaluation(reply.num_examples, dict(reply.metrics))
        return Admitted(Done(job.client, job.key, result, seconds=reply.seconds))
    if reply.base != job.base.digest:
        raise Refusal(Reason.OTHER_BASE, "base")
    context = seal_context(expected.run, job.key)
    plain = _opened(reply, fetch, most_bytes(expected.template), context, coordinator)
    if norm(decode_exactly(plain, expected.template)) > expected.most_norm:
        raise Refusal(Reason.NORM, "update")
    ref = Ref(digest_bytes(plain), len(plain), "delta")
    update = ClientUpdate(job.base.digest, ref, reply.num_examples, dict(reply.metrics))
    return Admitted(Done(job.client, job.key, update, seconds=reply.seconds), plain, reply.sealed)


def admit_facts(
    data: bytes,
    fetch: Fetch,
    *,
    run: str,
    key: str,
    attempt: int,
    site: PublicIdentity,
    coordinator: Identity,
) -> Told:
    """What a reply says that is not about a model, e.g. the description of a site's data.

    Args:
      key, attempt: of the announcement.

    Raises:
      Refusal: as :func:`admit`; the facts' own schema is their reader's to check.
    """
    reply = _reply(data, run, key, attempt, site, coordinator)
    if reply.status != "done":
        return Told(None, reply.code)
    if reply.base or reply.num_examples or reply.metrics:
        raise Refusal(Reason.SCHEMA, "facts")
    plain = _opened(reply, fetch, MOST_FACTS, seal_context(run, key), coordinator)
    facts = parse(plain, most_bytes=MOST_FACTS)
    if not isinstance(facts, dict):
        raise Refusal(Reason.SCHEMA, "facts")
    return Told(facts, sealed=reply.sealed)


def seal_context(run: str, key: str) -> bytes:
    """What an answer is sealed to: one run and one thing that was asked in it."""
    return canonical_json(["answer", run, key]).encode()


def _reply(
    data: bytes, run: str, key: str, attempt: int, site: PublicIdentity, coordinator: Identity
) -> Reply:
    envelope = open_envelope(data, sender=site, recipient=coordinator.name, run=run)
    if envelope.kind != "reply":
        raise Refusal(Reason.SCHEMA, "kind")
    reply = read_reply(envelope.content)
    if (reply.key, reply.attempt) != (key, attempt):
        raise Refusal(Reason.OTHER_JOB, "key")
    return reply


def _opened(reply: Reply, fetch: Fetch, most: int, context: bytes, coordinator: Identity) -> bytes:
    """What a reply's sealed blob holds: at most so many bytes, and those that the reply names."""
    if reply.sealed is None or reply.plain is None:
        raise Refusal(Reason.SCHEMA, "sealed")
    if reply.sealed.size > most + OVERHEAD:
        raise Refusal(Reason.TOO_LARGE, "sealed")
    plain = unseal(fetch(reply.sealed), coordinator, context)
    if digest_bytes(plain) != reply.plain.digest or len(plain) != reply.plain.size:
        raise Refusal(Reason.ALTERED_BLOB, "sealed")
    return plain
