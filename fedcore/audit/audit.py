"""The audit of a data set and of a partition: table, checks, remedy, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.audit.checks.catalogue import SUITES, rules_of, suite_of
from fedcore.audit.finding import Finding
from fedcore.audit.remedy import apply_remedy, judge, reason_of
from fedcore.audit.report import AuditReport
from fedcore.audit.settings import AuditSettings
from fedcore.audit.table import placement_table, sample_table
from fedcore.data.dataset import Dataset
from fedcore.partition.partition import Partition

if TYPE_CHECKING:
    import pandas as pd

RunSuite = Callable[["pd.DataFrame", str, Mapping[str, Any]], Sequence[Finding]]
"""(sample or placement table, name of a suite, rules) -> findings."""


class DataAuditFailed(RuntimeError):
    """The data or the partition has an error for which no remedy is set; the message says which."""


def run_checks(table: pd.DataFrame, suite: str, rules: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings of a suite's checks, in its order, in this process.

    Raises:
      ValueError: no such suite.
    """
    if suite not in SUITES:
        raise ValueError(f"suite={suite!r} does not exist; there are {', '.join(SUITES)}.")
    return tuple(
        finding
        for check in SUITES[suite]
        for finding in check.run(table, **{name: rules[name] for name in check.rules})
    )


def find_problems(
    dataset: Dataset, table: pd.DataFrame, settings: AuditSettings
) -> tuple[Finding, ...]:
    """What the checks of this data set find in its sample table, before any remedy."""
    return run_checks(table, suite_of(dataset), rules_of(dataset, settings))


def audit(
    dataset: Dataset, settings: AuditSettings, run_suite: RunSuite = run_checks
) -> AuditReport:
    """Check a data set before it is partitioned.

    Args:
      run_suite: what runs the checks; the flows' gate runs the same through its expectations.
    """
    table = sample_table(dataset, settings.value_ranges)
    suite = suite_of(dataset)
    found = run_suite(table, suite, rules_of(dataset, settings))
    return _report(dataset, dataset.name, suite, found, settings, apply_remedy(table, settings))


def audit_partition(
    dataset: Dataset,
    partition: Partition,
    settings: AuditSettings,
    dropped: Mapping[str, np.ndarray] | None = None,
    run_suite: RunSuite = run_checks,
) -> AuditReport:
    """Check that a partition gives every sample that was not dropped to exactly one client, and
    whether clients hold the same samples, or texts that are nearly the same.

    Args:
      dropped: the exclusions of the data set's own audit.
      run_suite: as for :func:`audit`.
    """
    # Images would be hashed for nothing: their likeness is no reason to doubt a partition.
    finds_alike = settings.near_duplicates.enabled and dataset.kind == "text"
    table = placement_table(sample_table(dataset, finds_alike=finds_alike), partition, dropped)
    found = run_suite(table, "partition", rules_of(dataset, settings))
    subject = f"{dataset.name}, partition into {len(partition.clients)} clients"
    return _report(dataset, subject, "partition", found, settings, dropped or {})


def require_passed(report: AuditReport) -> AuditReport:
    """The report itself.

    Raises:
      DataAuditFailed: the report says that the run may not go on.
    """
    if not report.passed:
        raise DataAuditFailed(report.reason)
    return report


def _report(
    dataset: Dataset,
    subject: str,
    suite: str,
    found: Sequence[Finding],
    settings: AuditSettings,
    dropped: Mapping[str, np.ndarray],
) -> AuditReport:
    findings = judge(found, settings, dropped)
    return AuditReport(
        subject=subject,
        fingerprint=dataset.fingerprint,
        sizes={name: len(split) for name, split in dataset.splits.items()},
        settings=settings.model_dump(mode="json"),
        checks=tuple(check.name for check in SUITES[suite]),
        findings=findings,
        dropped={split: tuple(at.tolist()) for split, at in dropped.items()},
        reason=reason_of(subject, findings, settings),
    )
