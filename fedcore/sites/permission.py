"""Whether a run may have anything of a site; asked before work is done, and again at the gate."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from fedcore.sites.codes import Code
from fedcore.sites.outgoing import Asked, Withheld
from fedcore.sites.policy import ByRule, Policy
from fedcore.sites.status import Approved, SiteStatus


def refused_answer(policy: Policy, status: SiteStatus, asked: Asked) -> Withheld | None:
    """Why this run gets no answer at all, not even that there is none; None when it may."""
    if status.state != "running":
        return Withheld(Code.SITE_PAUSED, "The site is paused.")
    if asked.run in status.withdrawn:
        return Withheld(Code.RUN_WITHDRAWN, "The site has withdrawn from this run.")
    if not matches_any(asked.run, policy.runs):
        return Withheld(Code.RUN_NOT_ALLOWED, "The run is not among the policy's runs.")
    if not matches_any(asked.purpose, policy.purposes):
        return Withheld(Code.PURPOSE_NOT_ALLOWED, "The purpose is not among the policy's purposes.")
    return None


def refused_result(policy: Policy, status: SiteStatus, asked: Asked) -> Withheld | None:
    """Why this run gets no result of this kind of work; None when it may."""
    if refused := refused_answer(policy, status, asked):
        return refused
    if asked.kind not in policy.jobs:
        return Withheld(Code.JOB_NOT_ALLOWED, "This kind of work is not among the policy's jobs.")
    if policy.private_only and asked.kind == "train" and not asked.private:
        return Withheld(
            Code.NOT_PRIVATE,
            "The run's training does not protect single records by this site's "
            "secret, and the policy has private_only.",
        )
    if isinstance(policy.approval, ByRule):
        if asked.code not in policy.approval.code:
            return Withheld(
                Code.NOT_APPROVED, "The program's version is not among approval.code of the policy."
            )
    elif Approved(asked.run, asked.plan, asked.code) not in status.approved:
        return Withheld(
            Code.NOT_APPROVED,
            "Nobody here has approved this run with this plan and this program's version.",
        )
    return None


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of the patterns; letters' case counts.

    >>> matches_any("heart-7", ["lung-*", "heart-?"]), matches_any("heart-7", [])
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)
