"""The trust boundary: bytes from outside become an outcome of a job, or a refusal with a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedcore.digests import canonical_json, digest_bytes
from fedcore.jobs import ClientJob, JobKind
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation, Failed, Refused
from fedcore.refs import Ref
from fedcore.sites.envelope import open_envelope
from fedcore.sites.identity import Identity, PublicIdentity
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import Reply, read_reply
from fedcore.sites.sealing import OVERHEAD, unseal
from fedcore.sites.wire_tensors import Template, decode_exactly, most_bytes, norm

Fetch = Callable[[Ref], bytes]
"""Reads a blob of the site's outbox, no more than its claimed size; raises Refusal."""


@dataclass(frozen=True)
class Expected:
    """What the coordinator waits for from one site.

    Attributes:
      run: id of the run.
      job: as it was announced.
      template: of the model, for training jobs.
      most_examples: what the site registered.
      most_norm: bound on an update's Euclidean norm.
    """

    run: str
    job: ClientJob
    template: Template
    most_examples: int
    most_norm: float


@dataclass(frozen=True)
class Admitted:
    """An accepted answer.

    Attributes:
      outcome: of the job.
      delta: safetensors bytes of the update that the outcome names; empty where it has none.
    """

    outcome: ClientOutcome
    delta: bytes = b""


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
    envelope = open_envelope(data, sender=site, recipient=coordinator.public.name, run=expected.run)
    if envelope.kind != "reply":
        raise Refusal(Reason.SCHEMA, "kind")
    reply = read_reply(envelope.content)
    if reply.job != job.key:
        raise Refusal(Reason.OTHER_JOB, "job")
    if reply.status == "refused":
        return Admitted(Refused(job.client, job.key, reply.code))
    if reply.status == "failed":
        return Admitted(Failed(job.client, job.key, reply.code))
    if not 0 < reply.num_examples <= expected.most_examples:
        raise Refusal(Reason.EXAMPLES, "num_examples")
    if job.kind is JobKind.EVALUATE:
        if reply.sealed or reply.plain or reply.facts:
            raise Refusal(Reason.SCHEMA, "evaluation")
        result = Evaluation(reply.num_examples, dict(reply.metrics))
        return Admitted(Done(job.client, job.key, result, seconds=reply.seconds))
    plain = _update(reply, fetch, expected, coordinator)
    ref = Ref(digest_bytes(plain), len(plain), "delta")
    update = ClientUpdate(job.base.digest, ref, reply.num_examples, dict(reply.metrics))
    return Admitted(Done(job.client, job.key, update, seconds=reply.seconds), plain)


def _update(reply: Reply, fetch: Fetch, expected: Expected, coordinator: Identity) -> bytes:
    if reply.base != expected.job.base.digest:
        raise Refusal(Reason.OTHER_BASE, "base")
    if reply.sealed is None or reply.plain is None or reply.facts:
        raise Refusal(Reason.SCHEMA, "update")
    if reply.sealed.size > most_bytes(expected.template) + OVERHEAD:
        raise Refusal(Reason.TOO_LARGE, "update")
    sealed = fetch(reply.sealed)
    plain = unseal(sealed, coordinator, seal_context(expected.run, expected.job))
    if digest_bytes(plain) != reply.plain.digest or len(plain) != reply.plain.size:
        raise Refusal(Reason.ALTERED_BLOB, "update")
    if norm(decode_exactly(plain, expected.template)) > expected.most_norm:
        raise Refusal(Reason.NORM, "update")
    return plain


def seal_context(run: str, job: ClientJob) -> bytes:
    """What an update is sealed to: one run, round, client and job."""
    return canonical_json(["update", run, job.round, job.client, job.key]).encode()
