"""The audit across sites: samples that two of them hold, labels that are rare in all together.

The findings and the samples to drop are those of the audit of all rows in one place. Two things
are found only there: the same input with other targets at two sites, and images or texts that are
merely alike, since neither targets nor hashes of likeness leave a site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedcore.audit.checks.catalogue import SUITES
from fedcore.audit.checks.duplicates import (
    check_exact_duplicates,
    check_repeated_samples,
    check_shared_by_owners,
)
from fedcore.audit.checks.labels import find_rare_labels
from fedcore.audit.finding import Finding
from fedcore.audit.remedy import apply_remedy, judge, reason_of
from fedcore.audit.report import AuditReport
from fedcore.audit.settings import AuditSettings
from fedcore.audit.wording import NOUNS, listed
from fedcore.digests import digest_json
from fedcore.sites.description import Description
from fedcore.task import TaskKind

if TYPE_CHECKING:
    import pandas as pd

Drop = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Site -> split -> hashes of the samples that it leaves out."""

_HELD_BY_MORE_THAN_ONE = {"exact-duplicates": "split", "shared-by-owners": "owner"}


def shared_samples(
    descriptions: Sequence[Description], settings: AuditSettings
) -> tuple[tuple[Finding, ...], Drop]:
    """What samples that two sites hold lead to.

    Returns:
      the findings, before any severity or remedy is applied; and with the remedy drop-from-train
      what each site leaves out, as :func:`fedcore.audit.remedy.apply_remedy` has it.
    """
    table = _held_twice(descriptions)
    if not len(table):
        return (), {}
    noun = NOUNS[descriptions[0].kind]
    found = (
        *check_exact_duplicates(table, noun=noun),
        *check_repeated_samples(table, noun=noun),
        *check_shared_by_owners(table, noun=noun),
    )
    drop: dict[str, dict[str, set[str]]] = {}
    for split, at in apply_remedy(table, settings).items():
        rows = table[(table["split"] == split) & table["index"].isin(at)]
        for owner, digest in zip(rows["owner"], rows["digest"], strict=True):
            drop.setdefault(owner, {}).setdefault(split, set()).add(digest)
    return tuple(_at_sites(one, table) for one in found), {
        site: {split: tuple(sorted(hashes)) for split, hashes in splits.items()}
        for site, splits in drop.items()
    }


def audit_sites(
    descriptions: Sequence[Description], settings: AuditSettings
) -> tuple[AuditReport, Drop]:
    """The run's audit from what all sites said first, and what each has yet to leave out.

    Sites name no rows: the report's ``dropped`` holds as many indices as samples are left out, from
    0, and its ``sizes`` are of all sites together.

    Raises:
      ValueError: the same site twice, or none.
    """
    sites = in_order(descriptions)
    shared, drop = shared_samples(sites, settings)
    out = _number_dropped(sites, drop)
    dropped = {split: np.arange(number) for split, number in out.items()}
    found = (*_own_findings(sites), *_rare_labels(sites, settings), *shared)
    findings = judge(found, settings, dropped)
    subject = f"the data of {len(sites)} sites"
    report = AuditReport(
        subject=subject,
        fingerprint=fingerprint(sites),
        sizes={split: sum(counts) for split, counts in _totals(sites).items()},
        settings=settings.model_dump(mode="json"),
        checks=tuple(check.name for check in SUITES[sites[0].kind]),
        findings=findings,
        dropped={split: tuple(at.tolist()) for split, at in dropped.items()},
        reason=reason_of(subject, findings, settings),
    )
    return report, drop


def in_order(descriptions: Sequence[Description]) -> tuple[Description, ...]:
    """The descriptions in client-id order.

    Raises:
      ValueError: the same site twice, or none.
    """
    sites = tuple(sorted(descriptions, key=lambda one: one.client))
    names = [one.client for one in sites]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"site {twice[0]!r} describes its data twice; take its last answer.")
    if not sites:
        raise ValueError("descriptions=[]: no site has described its data; at least 1 must.")
    return sites


def fingerprint(sites: Sequence[Description]) -> str:
    """SHA-256 of what all sites call their data."""
    return digest_json({one.client: dict(one.names) for one in sites})


def _held_twice(sites: Sequence[Description]) -> pd.DataFrame:
    """The sample table of the hashes that two sites hold: split, index, digest, owner."""
    import pandas as pd

    rows = [
        (split, digest, one.client)
        for one in sorted(sites, key=lambda one: one.client)
        for split, hashes in one.samples.items()
        for digest in hashes
    ]
    table = pd.DataFrame(rows, columns=["split", "digest", "owner"], dtype=object)
    table["index"] = table.groupby("split", sort=False).cumcount()
    holders = table.groupby("digest", sort=False)["owner"].transform("nunique")
    return table[holders > 1]


def _at_sites(finding: Finding, table: pd.DataFrame) -> Finding:
    """The finding with its sites in place of the positions of hashes, which say nothing."""
    same = table[table["split"].isin(finding.splits)]
    same = same[same["digest"].duplicated(keep=False)]
    if (column := _HELD_BY_MORE_THAN_ONE.get(finding.check)) is not None:
        holders = same.groupby("digest", sort=False)[column].transform("nunique")
        same = same[holders > 1]
    sites = listed(sorted(set(same["owner"])))
    message = f"{finding.message.rstrip('.')}, at the sites {sites}."
    return replace(finding, message=message, examples=())


def _own_findings(sites: Sequence[Description]) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            one.check,
            one.severity,
            one.splits,
            one.count,
            f"site {site.client} reports {one.check} ({one.count} in {listed(one.splits)}).",
        )
        for site in sites
        for one in site.findings
    )


def _rare_labels(sites: Sequence[Description], settings: AuditSettings) -> tuple[Finding, ...]:
    task = sites[0].task
    if task.kind is TaskKind.REGRESSION:
        return ()
    counts: dict[str, np.ndarray] = {}
    for site in sites:
        for split, counted in site.labels.items():
            counts[split] = counts.get(split, 0) + np.array(counted, np.int64)
    return find_rare_labels(counts, labels=task.labels, minimum=settings.min_class_support)


def _totals(sites: Sequence[Description]) -> dict[str, list[int]]:
    totals: dict[str, list[int]] = {}
    for site in sites:
        for part in (site.sizes, site.dropped):
            for split, count in part.items():
                totals.setdefault(split, []).append(count)
    return totals


def _number_dropped(sites: Sequence[Description], drop: Drop) -> dict[str, int]:
    """Split -> samples that sites have left out, or are yet to (each of a hash)."""
    out: dict[str, int] = {}
    for site in sites:
        for split, count in site.dropped.items():
            out[split] = out.get(split, 0) + count
        for split, hashes in drop.get(site.client, {}).items():
            yet = np.isin(np.array(site.samples[split]), list(hashes)).sum()
            out[split] = out.get(split, 0) + int(yet)
    return out
