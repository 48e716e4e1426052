"""A site's policy in sentences, for those who answer for the data."""

from __future__ import annotations

from collections.abc import Sequence

from fedcore.sites.policy import ByHand, Exact, Policy, Rounded, Withhold


def explain(policy: Policy) -> list[str]:
    """What may leave, in sentences.

    >>> explain(Policy())[0]
    'Nothing leaves: no run is allowed, no purpose is allowed, no kind of work is allowed.'
    """
    if missing := _what_is_missing(policy):
        return [f"Nothing leaves: {', '.join(missing)}."]
    return [
        f"Answered are runs {_any_of(policy.runs)} for the purposes {_any_of(policy.purposes)}; "
        "nothing about any other run leaves.",
        _approval(policy),
        *_train(policy),
        *_evaluate(policy),
        *_description(policy),
        *_statistics(policy),
        f"On one day (UTC) at most {policy.rounds_per_day} rounds are answered over all runs, in "
        f"each at most {policy.answers_per_round} answers of a kind, none over "
        f"{policy.max_bytes} bytes.",
        "That work was refused or failed leaves as one code of a fixed list, never as text.",
        "Log messages go to the coordinator's console."
        if policy.logs_to_api
        else "Log messages stay here.",
    ]


def _what_is_missing(policy: Policy) -> list[str]:
    found = []
    if not policy.runs:
        found.append("no run is allowed")
    if not policy.purposes:
        found.append("no purpose is allowed")
    if not policy.jobs:
        found.append("no kind of work is allowed")
    if policy.rounds_per_day == 0:
        found.append("rounds_per_day is 0")
    return found


def _approval(policy: Policy) -> str:
    if isinstance(policy.approval, ByHand):
        return "A person at this site approves each run first, its settings and its program."
    count = len(policy.approval.code)
    if count == 0:
        return "No program version is accepted, so that no result leaves."
    return f"Only runs planned by one of {count} accepted program versions are answered."


def _train(policy: Policy) -> list[str]:
    if "train" not in policy.jobs:
        return []
    bound = (
        "of any size"
        if policy.clip_norm is None
        else f"scaled down to an L2 norm of at most {policy.clip_norm:g}"
    )
    noise = (
        f"with Gaussian noise of standard deviation {policy.noise_stddev:g} added to each"
        if policy.noise_stddev
        else "without noise"
    )
    return [
        "From training leave the changes of the model's weights, exactly those of the model, "
        f"{bound}, {noise}, with the exact number of records, if those are at least "
        f"{policy.minimum_examples}. {_metrics(policy)}",
        *_privacy(policy),
    ]


def _privacy(policy: Policy) -> list[str]:
    said = []
    if policy.private_only:
        said.append(
            "Training that does not protect each record with noise from this site's own secret "
            "is refused."
        )
    if policy.privacy_budget is not None:
        said.append(
            "Private training is refused once all of it together would tell more of a record "
            f"than epsilon {policy.privacy_budget.epsilon:g} "
            f"(delta {policy.privacy_budget.delta:g})."
        )
    return said


def _evaluate(policy: Policy) -> list[str]:
    if "evaluate" not in policy.jobs:
        return []
    if isinstance(policy.metrics, Withhold):
        return ["Evaluations are not answered, since quality figures are withheld."]
    return [
        "From evaluation leaves the exact number of records, if those are at least "
        f"{policy.minimum_examples}. {_metrics(policy)} Scores of single records never leave."
    ]


def _metrics(policy: Policy) -> str:
    names = ", ".join(policy.metric_names) or "none"
    match policy.metrics:
        case Rounded(decimals=decimals):
            return f"Quality figures ({names}) leave rounded to {decimals} decimals."
        case Exact():
            return f"Quality figures ({names}) leave exactly."
    return "Quality figures stay."


def _statistics(policy: Policy) -> list[str]:
    if not {"statistics", "prepare", "audit"} & {*policy.jobs}:
        return []
    if not policy.statistics:
        return ["No statistics leave: none is named."]
    names = "as keyed fingerprints" if policy.identifiers == "hashed" else "as they are"
    return [
        f"Statistics named {_any_of(policy.statistics)} leave, if each group in them has none or "
        f"at least {policy.minimum_group} records; names of records in them leave {names}."
    ]


def _description(policy: Policy) -> list[str]:
    if not {"prepare", "audit"} & {*policy.jobs}:
        return []
    return [
        "Before the first round leaves a description of the data: names of columns and labels, "
        "numbers of records and of each label (if none or at least "
        f"{policy.minimum_group}), findings on data quality by the name of the check and how "
        "often it applied, however few, a keyed fingerprint of each record that the coordinator "
        "can compare with those of other sites, and, if the run scales all sites' columns alike, "
        "the exact mean and variance of each column."
    ]


def _any_of(patterns: Sequence[str]) -> str:
    return " or ".join("of any name" if one == "*" else one for one in patterns)
