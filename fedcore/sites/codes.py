"""Why a site does not answer: the whole list, since no other word about it ever leaves."""

from __future__ import annotations

from enum import StrEnum

from fedcore.execute import MACHINE_TROUBLE, OtherCode
from fedcore.store import BlobAltered, BlobMissing


class Code(StrEnum):
    """The codes. Those of the policy first, then those of work that was tried."""

    SITE_PAUSED = "site_paused"
    RUN_WITHDRAWN = "run_withdrawn"
    RUN_NOT_ALLOWED = "run_not_allowed"
    PURPOSE_NOT_ALLOWED = "purpose_not_allowed"
    JOB_NOT_ALLOWED = "job_not_allowed"
    NOT_APPROVED = "not_approved"
    TOO_FEW_EXAMPLES = "too_few_examples"
    GROUP_TOO_SMALL = "group_too_small"
    METRICS_WITHHELD = "metrics_withheld"
    METRIC_NOT_ALLOWED = "metric_not_allowed"
    STATISTIC_NOT_ALLOWED = "statistic_not_allowed"
    TOO_MANY_ROUNDS = "too_many_rounds"
    TOO_MANY_ANSWERS = "too_many_answers"
    TOO_LARGE = "too_large"
    WRONG_KIND = "wrong_kind"
    NOT_DELTA_SHAPED = "not_delta_shaped"
    NOT_A_DESCRIPTION = "not_a_description"
    NOT_FINITE = "not_finite"
    RELEASED_BEFORE = "released_before"
    SITE_NOT_READY = "site_not_ready"

    OTHER_CODE = "other_code"
    OTHER_JOB = "other_job"
    BAD_MODEL = "bad_model"
    BAD_REQUEST = "bad_request"
    OUT_OF_MEMORY = "out_of_memory"
    MACHINE_TROUBLE = "machine_trouble"
    BLOB_MISSING = "blob_missing"
    WORK_FAILED = "work_failed"


# The site was willing and could not; all others are a no.
FAILURES = frozenset(
    {Code.OUT_OF_MEMORY, Code.MACHINE_TROUBLE, Code.BLOB_MISSING, Code.BAD_MODEL, Code.WORK_FAILED}
)


def code_of(error: BaseException) -> Code:
    """What may be said of an exception; its type and text may quote data and stay here.

    >>> code_of(ValueError("Mrs Smith, 1951-03-02, is not a number"))
    <Code.WORK_FAILED: 'work_failed'>
    """
    if isinstance(error, OtherCode):
        return Code.OTHER_CODE
    if isinstance(error, MemoryError):
        return Code.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in MACHINE_TROUBLE:
        return Code.MACHINE_TROUBLE
    if isinstance(error, BlobMissing | BlobAltered):
        return Code.BLOB_MISSING
    return Code.WORK_FAILED
