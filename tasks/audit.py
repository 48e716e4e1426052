"""The data audit gate as tasks: a data set, then its partition, through Great Expectations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from expectations.gate import validate
from fedcore.audit.audit import audit, audit_partition, require_passed
from fedcore.audit.report import AuditReport
from fedcore.audit.settings import AuditSettings
from fedcore.data.dataset import Dataset
from fedcore.data.materialise import get_dataset
from fedcore.partition.make import make_partition
from fedcore.partition.partition import Partition
from fedcore.partition.settings import PartitionSettings
from fedcore.refs import Ref
from tasks import home


def run_audit(dataset: Dataset, settings: AuditSettings) -> AuditReport:
    """The audit of a data set, its checks run as expectations."""
    return audit(dataset, settings, validate)


def run_partition_audit(
    dataset: Dataset,
    partition: Partition,
    settings: AuditSettings,
    dropped: Mapping[str, np.ndarray] | None = None,
) -> AuditReport:
    """The audit of a partition, its checks run as expectations."""
    return audit_partition(dataset, partition, settings, dropped, validate)


@task(task_run_name="audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_dataset(data: Ref, settings: AuditSettings) -> dict[str, Any]:
    """The report of a data set in the store; fails with its reason when the run may not go on."""
    report = run_audit(get_dataset(home.store(), data), settings)
    show_audit(report, "data-audit")
    return require_passed(report).to_json()


@task(task_run_name="audit-partition", cache_policy=NO_CACHE, result_serializer="json")
def audit_clients(
    data: Ref,
    settings: AuditSettings,
    choice: PartitionSettings,
    seed: int,
    audited: dict[str, Any],
) -> dict[str, Any]:
    """The report of the partition that a run with this seed would make."""
    dataset = get_dataset(home.store(), data)
    dropped = AuditReport.from_json(audited).exclusions
    partition = make_partition(dataset, choice, seed, dropped)
    report = run_partition_audit(dataset, partition, settings, dropped)
    show_audit(report, "partition-audit")
    return require_passed(report).to_json()


def show_audit(report: AuditReport, key: str) -> None:
    """The report as an artifact in Prefect's console, failed or not."""
    create_markdown_artifact(
        report.to_markdown(), key=key, description=f"Data audit of {report.subject}"
    )
