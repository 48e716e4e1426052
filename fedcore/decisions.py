"""A person's decision on a run: what was asked, what may be answered, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from fedcore.digests import digest_json

MAX_WHO, MAX_WHY = 200, 2000


class Verdict(StrEnum):
    """What a person can say; and what a run says of a site that was not there at its beginning."""

    APPROVE = "approve"
    DROP = "drop clients"
    STOP = "stop"
    ADD = "add sites"


class AnswerRefused(ValueError):
    """An answer that cannot be taken; the message says why and what could be."""


class ApprovalNeeded(RuntimeError):
    """Somebody has to decide, and nobody can be asked here; the message says the way out."""


class StoppedByOperator(RuntimeError):
    """A person decided that the run ends."""


@dataclass(frozen=True)
class Question:
    """What a person is asked, between two rounds.

    Attributes:
      point: names the question within its run: lower-case letters, digits and ``-``.
      round: the last committed round; 0 before the first.
      asks: one or two sentences.
      clients: those that can be dropped, sorted; empty where dropping would change nothing.
      need: how many of them must remain.
    """

    point: str
    round: int
    asks: str
    clients: tuple[str, ...] = ()
    need: int = 1

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The answers that are possible."""
        can_drop = len(self.clients) > self.need
        return (Verdict.APPROVE, *([Verdict.DROP] if can_drop else []), Verdict.STOP)


@dataclass(frozen=True)
class Answer:
    """What a person said: the verdict, whom to drop, who it was (as given) and why."""

    verdict: Verdict
    who: str
    why: str
    clients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """An answer as the run's chain keeps it.

    Attributes:
      number: from 1.
      previous: digest of the decision before, or of the run's header.
      after: digest of the round record (or header) that the decision followed.
      point, round, asks: of the question.
      verdict, who, why, clients: of the answer.
      when: ISO 8601, UTC.
      held: of sites that are added: client id -> JSON of its holding in the federation.
    """

    number: int
    previous: str
    after: str
    point: str
    round: int
    asks: str
    verdict: Verdict
    clients: tuple[str, ...]
    who: str
    why: str
    when: str
    held: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        value = {**asdict(self), "verdict": self.verdict.value, "clients": list(self.clients)}
        if not self.held:
            del value["held"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Decision:
        """The decision that ``to_json`` described."""
        verdict, clients = Verdict(value["verdict"]), tuple(value["clients"])
        return Decision(**{**value, "verdict": verdict, "clients": clients})

    @property
    def digest(self) -> str:
        """SHA-256 of the decision's canonical JSON."""
        return digest_json(self.to_json())

    def __str__(self) -> str:
        what = f"{self.verdict.value} {', '.join(self.clients)}".strip()
        where = f"after round {self.round}" if self.round else "before round 1"
        return f"{what}, {where}, by {self.who} at {self.when}: {self.why}"


def check_answer(question: Question, answer: Answer) -> None:
    """Refuses an answer that cannot be carried out.

    Raises:
      AnswerRefused: nobody's name or reason, a client that is not there, too few that would remain,
        or a verdict that this question does not offer.
    """
    for name, value, most in (("who", answer.who, MAX_WHO), ("why", answer.why, MAX_WHY)):
        if not value.strip():
            raise AnswerRefused(
                f"{name}={value!r} is empty; the decision is kept with who and why."
            )
        if len(value) > most:
            raise AnswerRefused(f"{name} has {len(value)} characters; at most {most} are kept.")
    if answer.verdict is Verdict.ADD:
        raise AnswerRefused("a site is added by the run, once it is there; approve, drop or stop.")
    if answer.verdict is not Verdict.DROP:
        if answer.clients:
            raise AnswerRefused(
                f"clients={list(answer.clients)} are named, but the decision is "
                f"{answer.verdict.value!r}; name none, or decide {Verdict.DROP.value!r}."
            )
        return
    if answer.verdict not in question.verdicts:
        reason = (
            f"a round needs {question.need} of the {len(question.clients)} clients that are left"
            if question.clients
            else "no round follows"
        )
        raise AnswerRefused(f"no client can be dropped here: {reason}; approve or stop.")
    if not answer.clients:
        raise AnswerRefused("clients=[] names nobody to drop; name some, or approve.")
    if unknown := sorted(set(answer.clients) - set(question.clients)):
        raise AnswerRefused(
            f"clients={unknown} cannot be dropped; those that can be: {list(question.clients)}."
        )
    left = len(set(question.clients) - set(answer.clients))
    if left < question.need:
        raise AnswerRefused(
            f"dropping {sorted(set(answer.clients))} leaves {left} clients, but a round needs "
            f"{question.need}; drop fewer, or stop."
        )


def dropped(decisions: Sequence[Decision], round: int) -> set[str]:
    """The clients that decisions leave out of a round."""
    before = [each for each in decisions if each.round < round and each.verdict is Verdict.DROP]
    return {client for each in before for client in each.clients}


def not_yet(decisions: Sequence[Decision], round: int) -> set[str]:
    """The clients that were added after a round, or after it had begun."""
    later = [each for each in decisions if each.round >= round and each.verdict is Verdict.ADD]
    return {client for each in later for client in each.clients}


def decision_rows(decisions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of a table for people: after which round, what, who, when and why.

    Args:
      decisions: JSON of decisions.
    """
    return [
        [
            f"round {one['round']}" if one["round"] else "the audit",
            f"{one['verdict']} {', '.join(one['clients'])}".strip(),
            one["who"],
            one["when"],
            one["why"],
        ]
        for one in decisions
    ]
