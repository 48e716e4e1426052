"""What the coordinator asks a site to do: little, because the site works from the plan that it has
approved and not from what a message says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fedcore.digests import digest_json
from fedcore.refs import Ref
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import DIGEST

MOST_ROUNDS = 10**6


class Ask(StrEnum):
    """What is asked."""

    AUDIT = "audit"  # look at your data for this run; say what you found
    STATISTICS = "statistics"  # counts, means and the like of your columns
    PREPARE = "prepare"  # approve this plan and lay your data out for it
    TRAIN = "train"
    EVALUATE = "evaluate"
    CLOSE = "close"  # the run is over


@dataclass(frozen=True)
class Announcement:
    """One thing asked of one site.

    Attributes:
      ask: what.
      round: from 1; 0 before the first.
      job: key of the job, which the site computes for itself and compares.
      base: the model to start from, for training and evaluation.
      split: of the site's data, for evaluation.
      facts: configuration and what is asked, for audit, statistics and preparation.
      attempt: from 0; the same thing is asked again after an answer that it could not be done.
    """

    ask: Ask
    round: int = 0
    job: str = ""
    base: Ref | None = None
    split: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0

    @property
    def key(self) -> str:
        """What is asked, whichever attempt: the job's key, or the digest of the facts."""
        return self.job or digest_json([self.ask.value, dict(self.facts)])

    def to_json(self) -> dict[str, Any]:
        """The content of an announcement's envelope."""
        base = {"digest": self.base.digest, "size": self.base.size} if self.base else None
        return {
            "ask": self.ask.value,
            "round": self.round,
            "job": self.job,
            "base": base,
            "split": self.split,
            "facts": dict(self.facts),
            "attempt": self.attempt,
        }


def read_announcement(content: Mapping[str, Any]) -> Announcement:
    """The announcement in an envelope's content.

    Raises:
      Refusal: ``schema``, with the field.
    """
    if set(content) != set(Announcement.__dataclass_fields__):
        raise Refusal(Reason.SCHEMA, "announcement")
    if content["ask"] not in [ask.value for ask in Ask]:
        raise Refusal(Reason.SCHEMA, "ask")
    ask = Ask(content["ask"])
    is_job = ask in (Ask.TRAIN, Ask.EVALUATE)
    for name in ("round", "attempt"):
        number = content[name]
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if not is_number or not 0 <= number <= MOST_ROUNDS:
            raise Refusal(Reason.SCHEMA, name)
    if not isinstance(content["job"], str) or bool(DIGEST.fullmatch(content["job"])) != is_job:
        raise Refusal(Reason.SCHEMA, "job")
    splits = ("train", "val", "test") if ask is Ask.EVALUATE else ("",)
    if content["split"] not in splits:
        raise Refusal(Reason.SCHEMA, "split")
    if not isinstance(content["facts"], dict) or (is_job and content["facts"]):
        raise Refusal(Reason.SCHEMA, "facts")
    return Announcement(
        ask,
        content["round"],
        content["job"],
        _base(content["base"], is_job),
        content["split"],
        content["facts"],
        content["attempt"],
    )


def _base(value: Any, is_job: bool) -> Ref | None:
    if not is_job:
        if value is not None:
            raise Refusal(Reason.SCHEMA, "base")
        return None
    if not isinstance(value, dict) or set(value) != {"digest", "size"}:
        raise Refusal(Reason.SCHEMA, "base")
    size = value["size"]
    is_size = isinstance(size, int) and not isinstance(size, bool) and size > 0
    if not is_size or not isinstance(value["digest"], str) or not DIGEST.fullmatch(value["digest"]):
        raise Refusal(Reason.SCHEMA, "base")
    return Ref(value["digest"], size, "model")
