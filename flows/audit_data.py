"""The data audit alone: is this data fit for a federated run?"""

from __future__ import annotations

from typing import Any

from prefect import flow

from fedcore.audit.settings import AuditSettings
from fedcore.config import RunConfig
from fedcore.data.settings import DataSettings, Digits
from fedcore.partition.settings import PartitionSettings
from tasks.audit import audit_clients, audit_dataset
from tasks.data import data_of_run, load_data


def run_name() -> str:
    """After the data set, as the operator reads it in lists of runs."""
    return f"audit {data_of_run()}"


@flow(name="audit-data", flow_run_name=run_name)
def audit_data(
    data: DataSettings = Digits(),  # noqa: B008 - frozen
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    partition: PartitionSettings | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Checks a data set for leaks and errors, and its partition where one is named. Trains nothing.

    Returns the reports as JSON; fails with the reason in one sentence when an error has no remedy.
    """
    dataset = load_data(RunConfig(data=data))
    reports = {"data": audit_dataset(dataset, audit)}
    if partition is not None:
        reports["partition"] = audit_clients(dataset, audit, partition, seed, reports["data"])
    return reports


if __name__ == "__main__":
    audit_data()
