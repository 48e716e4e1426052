"""Why something that came from outside was not accepted: one code each, never its content."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What was wrong. The codes are part of events, audit logs and round tables."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    SCHEMA = "schema"
    UNKNOWN_SENDER = "unknown_sender"
    REVOKED = "revoked"
    WRONG_RECIPIENT = "wrong_recipient"
    SIGNATURE = "signature"
    OTHER_RUN = "other_run"
    OTHER_JOB = "other_job"
    OTHER_BASE = "other_base"
    REPLAYED = "replayed"
    LATE = "late"
    MISSING_BLOB = "missing_blob"
    ALTERED_BLOB = "altered_blob"
    SEAL = "seal"
    TENSORS = "tensors"
    NOT_FINITE = "not_finite"
    NORM = "norm"
    EXAMPLES = "examples"
    METRICS = "metrics"


class Refusal(ValueError):
    """Something from outside is refused.

    Attributes:
      reason: the code.
      what: name of the field or tensor of our own schema that does not fit; never received text.
    """

    def __init__(self, reason: Reason, what: str = "") -> None:
        super().__init__(f"{reason}: {what}" if what else str(reason))
        self.reason, self.what = reason, what
