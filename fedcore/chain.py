"""The history of a run: a header and hash-chained round records, each appended atomically."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from fedcore.decisions import Answer, Decision, Question
from fedcore.digests import canonical_json, digest_bytes
from fedcore.refs import Ref
from fedcore.store import AlreadyExists, Store

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class RunTakenOver(RuntimeError):
    """Another process appended to this run's chain; this one must stop."""


class ChainBroken(ValueError):
    """The stored history is not the one that was written."""


@dataclass(frozen=True)
class RoundRecord:
    """What happened in one round. What is not in the chain did not happen.

    Attributes:
      round: from 1.
      previous: digest of the record before, or of the header.
      plan: digest of the settings of this round's jobs.
      parent: the model the round started from.
      cohort: client ids that were drawn, sorted.
      outcomes: client id -> status, number of examples, update digest or reason, metrics; of an
        update that came late also its staleness, and ``job`` is the job of its own round.
      privacy: privacy events of the round.
      model: trainable parameters after the round.
      state: the server optimizer's state after the round.
      metrics: split -> ``{"overall": {...}, "clients": {client: {...}}}``; empty when the round
        was not evaluated.
      decided: digest of the last decision that was taken before the round; empty when none was.
      adapters: relative ``error`` of the aggregated product of low-rank adapters and, by layer, its
        ``error`` and ``rank``; empty where there are none.
    """

    round: int
    previous: str
    plan: str
    parent: Ref
    cohort: tuple[str, ...]
    outcomes: Mapping[str, Mapping[str, Any]]
    model: Ref
    state: Ref | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    privacy: tuple[Mapping[str, Any], ...] = ()
    decided: str = ""
    adapters: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        value = json.loads(canonical_json(asdict(self)))
        if not self.decided:  # as records were before anybody could decide
            del value["decided"]
        if not self.adapters:
            del value["adapters"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> RoundRecord:
        """The record that ``to_json`` described."""
        return RoundRecord(
            **{
                **value,
                "cohort": tuple(value["cohort"]),
                "privacy": tuple(value["privacy"]),
                "parent": Ref(**value["parent"]),
                "model": Ref(**value["model"]),
                "state": Ref(**value["state"]) if value["state"] else None,
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the record's canonical JSON."""
        return digest_bytes(canonical_json(self.to_json()).encode())


class Chain:
    """One run's header and records in a store, under ``runs/RUN_ID/``."""

    def __init__(self, store: Store, run_id: str) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(f"run_id={run_id!r} must match {RUN_ID.pattern}.")
        self.store = store
        self.run_id = run_id

    def _read(self, name: str) -> bytes | None:
        try:
            return self.store.read(f"runs/{self.run_id}/{name}")
        except FileNotFoundError:
            return None

    def begin(self, header: Mapping[str, Any]) -> None:
        """Writes the header, or checks that the run already has this very one.

        Raises:
          ChainBroken: the run exists with another header (another config, code or data).
        """
        text = canonical_json(header).encode()
        try:
            self.store.write(f"runs/{self.run_id}/header.json", text, exclusive=True)
        except AlreadyExists:
            kept = self.header()
            if canonical_json(kept).encode() != text:
                differ = sorted(
                    k for k in {*kept, *header} if kept.get(k) != json.loads(text).get(k)
                )
                if "identity" in differ:
                    now, then = header["identity"], kept["identity"]
                    differ.remove("identity")
                    differ += sorted(k for k in {*now, *then} if now.get(k) != then.get(k))
                raise ChainBroken(
                    f"run {self.run_id} was started with another {', '.join(differ)}; it cannot go "
                    "on with this one. Start a new run: finished client work is reused where it "
                    "still applies."
                ) from None

    def header(self) -> dict[str, Any]:
        """The run's header; ``LookupError`` when there is no such run."""
        data = self._read("header.json")
        if data is None:
            raise LookupError(f"no run {self.run_id!r} in the store {self.store.url}.")
        return json.loads(data)

    def records(self) -> Iterator[RoundRecord]:
        """The committed rounds in order, each checked against the one before.

        Raises:
          ChainBroken: a record was altered, or does not follow its predecessor, or the decisions
            are not those that it was made after.
        """
        previous = digest_bytes(canonical_json(self.header()).encode())
        decisions = self.decisions()
        number = 1
        while (data := self._read(f"rounds/{number:06d}.json")) is not None:
            try:
                record = RoundRecord.from_json(json.loads(data))
                intact = canonical_json(record.to_json()).encode() == data
            except (ValueError, TypeError, KeyError) as error:
                raise ChainBroken(f"round {number} of run {self.run_id} is unreadable.") from error
            if not intact or record.previous != previous or record.round != number:
                raise ChainBroken(
                    f"round {number} of run {self.run_id} does not follow the record before it."
                )
            self._check_decisions(decisions, record)
            yield record
            previous = record.digest
            number += 1
        missing = f"{number:06d}.json"
        names = {name.rsplit("/", 1)[-1] for name in self.store.names(f"runs/{self.run_id}/rounds")}
        if missing not in names and any(name > missing for name in names):
            raise ChainBroken(
                f"round {number} of run {self.run_id} is missing, but a later one is there."
            )
        if any(
            one.round >= number or (one.round == number - 1 and one.after != previous)
            for one in decisions
        ):
            raise ChainBroken(f"a decision on run {self.run_id} was taken on another history.")

    def _check_decisions(self, decisions: Sequence[Decision], record: RoundRecord) -> None:
        before = [one for one in decisions if one.round < record.round]
        last = [one for one in before if one.round == record.round - 1]
        if record.decided != (before[-1].digest if before else "") or any(
            one.after != record.previous for one in last
        ):
            raise ChainBroken(
                f"round {record.round} of run {self.run_id} was not made after the decisions that "
                "are there."
            )

    def decisions(self) -> tuple[Decision, ...]:
        """What people decided, in order, each checked against the one before.

        Raises:
          ChainBroken: a decision was altered, removed, or does not follow its predecessor.
        """
        previous = digest_bytes(canonical_json(self.header()).encode())
        found: list[Decision] = []
        names = self.store.names(f"runs/{self.run_id}/decisions")
        for number, name in enumerate(names, start=1):
            try:
                kept = json.loads(data := self.store.read(name))
                digest = kept.pop("digest")
                decision = Decision.from_json(kept)
                intact = _decision_bytes(decision) == data and decision.digest == digest
            except (ValueError, TypeError, KeyError) as error:
                raise ChainBroken(
                    f"decision {number} on run {self.run_id} is unreadable."
                ) from error
            if not intact or decision.previous != previous or decision.number != number:
                raise ChainBroken(
                    f"decision {number} on run {self.run_id} does not follow the one before it."
                )
            found.append(decision)
            previous = decision.digest
        return tuple(found)

    def decide(
        self,
        question: Question,
        answer: Answer,
        *,
        when: str = "",
        held: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Keeps an answer, between two rounds.

        Args:
          when: ISO 8601; now when left empty.
          held: of sites that are added.

        Raises:
          RunTakenOver: another process decided meanwhile.
        """
        before = self.decisions()
        header = digest_bytes(canonical_json(self.header()).encode())
        decision = Decision(
            number=len(before) + 1,
            previous=before[-1].digest if before else header,
            after=self.head(),
            point=question.point,
            round=question.round,
            asks=question.asks,
            verdict=answer.verdict,
            clients=tuple(sorted(set(answer.clients))),
            who=answer.who.strip(),
            why=answer.why.strip(),
            when=when or datetime.now(UTC).isoformat(timespec="seconds"),
            held=held or {},
        )
        self.keep_decision(decision)
        return decision

    def keep_decision(self, decision: Decision) -> None:
        """Writes a decision that is linked already; raises as ``decide``."""
        name = f"runs/{self.run_id}/decisions/{decision.number:06d}.json"
        try:
            self.store.write(name, _decision_bytes(decision), exclusive=True)
        except AlreadyExists as error:
            raise RunTakenOver(
                f"decision {decision.number} on run {self.run_id} was taken by another process; "
                "this one stops. Watch the other one."
            ) from error

    def head(self) -> str:
        """Digest of the last record, or of the header when there is none."""
        last = digest_bytes(canonical_json(self.header()).encode())
        for record in self.records():
            last = record.digest
        return last

    def append(self, record: RoundRecord) -> None:
        """Commits a round.

        Raises:
          RunTakenOver: the round is already there: another process writes to this run.
        """
        name = f"runs/{self.run_id}/rounds/{record.round:06d}.json"
        try:
            self.store.write(name, canonical_json(record.to_json()).encode(), exclusive=True)
        except AlreadyExists as error:
            raise RunTakenOver(
                f"round {record.round} of run {self.run_id} was committed by another process; "
                "this one stops. Watch the other one, or start a new run."
            ) from error

    def annotate(self, name: str, value: Any) -> None:
        """Keeps JSON beside the chain, outside parity: times, hosts, warnings."""
        self.store.write(
            f"runs/{self.run_id}/notes/{name}.json", json.dumps(value, indent=1).encode()
        )

    def annotation(self, name: str) -> Any:
        """What ``annotate`` kept, or None."""
        data = self._read(f"notes/{name}.json")
        return None if data is None else json.loads(data)


def _decision_bytes(decision: Decision) -> bytes:
    return canonical_json({**decision.to_json(), "digest": decision.digest}).encode()
