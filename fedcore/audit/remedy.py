"""What is done about findings: samples to drop, severities, and whether the run may go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.finding import Finding
from fedcore.audit.settings import AuditSettings
from fedcore.audit.wording import count_of, listed

if TYPE_CHECKING:
    import pandas as pd

CURED_BY_DROPPING = frozenset({"exact-duplicates", "shared-by-owners"})
# A run cannot go on with these whatever its operator accepts: training would fail or mean nothing.
NEVER_ACCEPTED = frozenset({"schema", "values", "labels", "one-client", "every-sample"})


def apply_remedy(table: pd.DataFrame, settings: AuditSettings) -> dict[str, np.ndarray]:
    """Split -> (n,) int64 sorted indices to leave out of the run; empty unless drop-from-train.

    Training samples whose input is also in val or test; validation samples whose input is also in
    test; training samples whose input another owner holds too, unless theirs is the first of the
    owners' names (an order that sites know whose rows never meet). Test samples are never dropped:
    published scores stay comparable.
    """
    if settings.remedy != "drop-from-train":
        return {}
    off = {check for check, severity in settings.severity.items() if severity == "off"}
    parts = {split: rows for split, rows in table.groupby("split", sort=False)}
    nothing = table.iloc[:0]
    train, val, test = (parts.get(split, nothing) for split in ("train", "val", "test"))
    leaks = {"train": np.zeros(len(train), dtype=bool), "val": np.zeros(len(val), dtype=bool)}
    if "exact-duplicates" not in off:
        held_out = set(val["digest"]) | set(test["digest"])
        leaks["train"] |= train["digest"].isin(held_out).to_numpy()
        leaks["val"] |= val["digest"].isin(set(test["digest"])).to_numpy()
    if "shared-by-owners" not in off and train["owner"].notna().all():
        left = train[~leaks["train"]]
        first = left.groupby("digest", sort=False)["owner"].min()
        elsewhere = left["owner"] != left["digest"].map(first)
        leaks["train"][np.flatnonzero(~leaks["train"])[elsewhere.to_numpy()]] = True
    rows = {"train": train, "val": val}
    return {
        split: np.sort(rows[split]["index"].to_numpy(np.int64)[leak])
        for split, leak in leaks.items()
        if leak.any()
    }


def judge(
    findings: Iterable[Finding], settings: AuditSettings, dropped: Mapping[str, np.ndarray]
) -> tuple[Finding, ...]:
    """The findings with the severities that the settings ask for and what was done about each.

    Errors come first; an error without a remedy stops the run.
    """
    judged = []
    for finding in findings:
        severity = settings.severity.get(finding.check, finding.severity)  # type: ignore[call-overload]
        if severity == "off":
            continue
        judged.append(
            replace(finding, severity=severity, remedy=_remedy(finding, settings, dropped))
        )
    return tuple(sorted(judged, key=lambda finding: finding.severity))


def _remedy(finding: Finding, settings: AuditSettings, dropped: Mapping[str, np.ndarray]) -> str:
    """What was done about a finding; empty when nothing was."""
    if settings.remedy == "drop-from-train" and finding.check in CURED_BY_DROPPING:
        # Of two splits the earlier one gives way.
        split = finding.splits[0]
        count = len(dropped.get(split, ()))
        return f"dropped from {split}, which loses {count_of(count, 'sample')} in all"
    if settings.remedy == "accept" and finding.check not in NEVER_ACCEPTED:
        return "accepted"
    return ""


def reason_of(name: str, findings: Iterable[Finding], settings: AuditSettings) -> str:
    """Why the run may not go on, in one sentence with the way out; empty when it may."""
    open_errors = [one for one in findings if one.severity == "error" and not one.remedy]
    if not open_errors:
        return ""
    problems = listed(one.message.rstrip(".") for one in open_errors)
    checks = {one.check for one in open_errors}
    if checks <= CURED_BY_DROPPING:
        way_out = "set audit.remedy to 'drop-from-train' or 'accept', or mend the data"
    elif checks & NEVER_ACCEPTED:
        way_out = "mend the data"
    else:
        way_out = "mend the data or set audit.remedy to 'accept'"
    return f"The audit of {name} found that {problems}: {way_out}."
