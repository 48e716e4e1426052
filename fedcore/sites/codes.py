"""Why a site does not answer: the whole list, since no other word about it ever leaves."""

from __future__ import annotations

from enum import StrEnum

from fedcore.data.download import DataNotFound
from fedcore.execute import MACHINE_TROUBLE, OtherCode
from fedcore.sites.refusal import Reason
from fedcore.store import BlobAltered, BlobMissing


class Code(StrEnum):
    """The codes. Those of the policy first, then those of work that was tried."""

    SITE_PAUSED = "site_paused"
    RUN_WITHDRAWN = "run_withdrawn"
    RUN_NOT_ALLOWED = "run_not_allowed"
    PURPOSE_NOT_ALLOWED = "purpose_not_allowed"
    JOB_NOT_ALLOWED = "job_not_allowed"
    NOT_APPROVED = "not_approved"
    NOT_PRIVATE = "not_private"
    BUDGET_SPENT = "budget_spent"
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
    DATA_NOT_FOUND = "data_not_found"
    WORK_FAILED = "work_failed"


# The site was willing and could not; all others are a no.
FAILURES = frozenset(
    {
        Code.OUT_OF_MEMORY,
        Code.MACHINE_TROUBLE,
        Code.BLOB_MISSING,
        Code.BAD_MODEL,
        Code.DATA_NOT_FOUND,
        Code.WORK_FAILED,
    }
)

WORDS = {
    Code.SITE_PAUSED: "it is paused by its administrator",
    Code.RUN_WITHDRAWN: "its administrator has withdrawn it from this run",
    Code.RUN_NOT_ALLOWED: "its policy does not allow this run",
    Code.PURPOSE_NOT_ALLOWED: "its policy does not allow runs of this name",
    Code.JOB_NOT_ALLOWED: "its policy does not allow this kind of work",
    Code.NOT_APPROVED: "its administrator has not approved this run yet",
    Code.NOT_PRIVATE: "its policy takes part in private training only",
    Code.BUDGET_SPENT: "its records have told what its policy's privacy_budget allows",
    Code.TOO_FEW_EXAMPLES: "it has fewer rows than its policy wants for that",
    Code.GROUP_TOO_SMALL: "a group of its rows is smaller than its policy lets be told",
    Code.METRICS_WITHHELD: "its policy lets no scores out",
    Code.METRIC_NOT_ALLOWED: "its policy does not let one of the scores out",
    Code.STATISTIC_NOT_ALLOWED: "its policy does not let one of the statistics out",
    Code.TOO_MANY_ROUNDS: "it has answered as many rounds today as its policy allows",
    Code.TOO_MANY_ANSWERS: "it has answered this as often as its policy allows",
    Code.TOO_LARGE: "the answer is larger than its policy lets out",
    Code.WRONG_KIND: "its gate found the answer to be of another kind than was asked for",
    Code.NOT_DELTA_SHAPED: "its gate found an update that has not the model's form",
    Code.NOT_A_DESCRIPTION: "its gate found more than a description of data",
    Code.NOT_FINITE: "its training gave numbers that are not finite",
    Code.RELEASED_BEFORE: "it has answered this before, otherwise",
    Code.SITE_NOT_READY: "its policy, status or log cannot be read",
    Code.OTHER_CODE: "another release of Fedloom is installed there than here",
    Code.OTHER_JOB: "what was asked is not of the plan that it knows",
    Code.BAD_MODEL: "the model that it got cannot be read",
    Code.BAD_REQUEST: "what was asked cannot be read",
    Code.OUT_OF_MEMORY: "it ran out of memory",
    Code.MACHINE_TROUBLE: "its disk is full, or its machine has other trouble",
    Code.BLOB_MISSING: "something that it needs is missing in its store",
    Code.DATA_NOT_FOUND: "its data are not where its settings say",
    Code.WORK_FAILED: "its work failed; why is in its worker's log",
}
"""Each code for the coordinator's operator, as what follows "site north: "."""


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
    if isinstance(error, DataNotFound):
        return Code.DATA_NOT_FOUND
    return Code.WORK_FAILED


def in_words(code: str) -> str:
    """What an operator reads of a code, or of why an answer was refused here.

    >>> in_words("not_approved")
    'its administrator has not approved this run yet (not_approved)'
    >>> in_words(Reason.TOO_LARGE)
    'what it sent was refused (too_large)'
    """
    known = code in set(Code) and not isinstance(code, Reason)
    return f"{WORDS[Code(code)] if known else 'what it sent was refused'} ({code})"
