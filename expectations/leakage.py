"""Expectations that no input occurs where it should not: exact, repeated, contradictory, alike."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from expectations.sample_table import MaybeNumber, MaybeWhole, SampleTableExpectation, Text
from fedcore.audit.checks.duplicates import (
    check_conflicting_labels,
    check_exact_duplicates,
    check_repeated_samples,
    check_shared_by_owners,
)
from fedcore.audit.checks.near import check_near_duplicates
from fedcore.audit.checks.near_texts import check_near_texts
from fedcore.audit.finding import Finding


class ExpectNoExactDuplicatesAcrossSplits(SampleTableExpectation):
    """No input occurs, byte for byte, in two splits."""

    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("noun",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_exact_duplicates(table, **rules)


class ExpectNoRepeatedSamples(SampleTableExpectation):
    """No input occurs twice in one split."""

    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("noun",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_repeated_samples(table, **rules)


class ExpectNoConflictingLabels(SampleTableExpectation):
    """The same input has the same target everywhere."""

    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("noun",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_conflicting_labels(table, **rules)


class ExpectNoSampleSharedByOwners(SampleTableExpectation):
    """No training input belongs to two owners."""

    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("noun",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_shared_by_owners(table, **rules)


class ExpectNoNearDuplicatesAcrossSplits(SampleTableExpectation):
    """No image looks like one of an earlier split, by perceptual hash."""

    threshold: MaybeWhole = None
    success_keys: ClassVar[tuple[str, ...]] = ("threshold",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_near_duplicates(table, **rules)


class ExpectNoNearlySameTextsAcrossSplits(SampleTableExpectation):
    """No text shares most of its runs of words with one of an earlier split, by MinHash."""

    similarity: MaybeNumber = None
    success_keys: ClassVar[tuple[str, ...]] = ("similarity",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_near_texts(table, **rules)
