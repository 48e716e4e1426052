"""Expectations of a partition, on the placement table."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from expectations.sample_table import MaybeNumber, SampleTableExpectation, Text
from fedcore.audit.checks.clients import (
    check_every_sample,
    check_one_client,
    check_shared_by_clients,
)
from fedcore.audit.checks.near_clients import check_alike_at_clients
from fedcore.audit.finding import Finding


class ExpectSamplesInOneClient(SampleTableExpectation):
    """No sample is held twice."""

    success_keys: ClassVar[tuple[str, ...]] = ()

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_one_client(table)


class ExpectEverySampleInAClient(SampleTableExpectation):
    """Every training sample that was not dropped is held, and nothing else is."""

    success_keys: ClassVar[tuple[str, ...]] = ()

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_every_sample(table)


class ExpectNoContentSharedByClients(SampleTableExpectation):
    """No training input occurs, byte for byte, at two clients."""

    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("noun",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_shared_by_clients(table, **rules)


class ExpectNoNearlySameTextsAtClients(SampleTableExpectation):
    """No training text shares most of its runs of words with one of another client, by MinHash."""

    similarity: MaybeNumber = None
    success_keys: ClassVar[tuple[str, ...]] = ("similarity",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_alike_at_clients(table, **rules)
