"""Expectations of single inputs, targets and split sizes."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from expectations.sample_table import (
    MaybeNumber,
    SampleTableExpectation,
    Sizes,
    Text,
    Texts,
    Whole,
)
from fedcore.audit.checks.content import check_blank_images, check_schema, check_values
from fedcore.audit.checks.labels import check_class_support, check_labels
from fedcore.audit.checks.sizes import check_split_sizes
from fedcore.audit.checks.texts import check_empty_texts, check_readable, check_text_lengths
from fedcore.audit.finding import Finding


class ExpectInputsToHaveSchema(SampleTableExpectation):
    """Every input has the stated type and shape."""

    shape: Text
    dtype: Text
    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("shape", "dtype", "noun")

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_schema(table, **rules)


class ExpectValuesToBeFiniteAndInRange(SampleTableExpectation):
    """Every value is a finite number within the allowed range."""

    low: MaybeNumber = None
    high: MaybeNumber = None
    noun: Text
    success_keys: ClassVar[tuple[str, ...]] = ("low", "high", "noun")

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_values(table, **rules)


class ExpectNoBlankImages(SampleTableExpectation):
    """No image has one single colour."""

    success_keys: ClassVar[tuple[str, ...]] = ()

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_blank_images(table)


class ExpectTextsToBeReadable(SampleTableExpectation):
    """Every text is UTF-8."""

    success_keys: ClassVar[tuple[str, ...]] = ()

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_readable(table)


class ExpectNoEmptyTexts(SampleTableExpectation):
    """Every text has a word."""

    success_keys: ClassVar[tuple[str, ...]] = ()

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_empty_texts(table)


class ExpectTextsToBeReadToTheirEnd(SampleTableExpectation):
    """No text may have been cut, and none has more words than the model reads."""

    most_words: Whole
    success_keys: ClassVar[tuple[str, ...]] = ("most_words",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_text_lengths(table, **rules)


class ExpectLabelsToBeInRange(SampleTableExpectation):
    """Every target is one that the task allows."""

    kind: Text
    labels: Texts
    success_keys: ClassVar[tuple[str, ...]] = ("kind", "labels")

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_labels(table, **rules)


class ExpectMinimumClassSupport(SampleTableExpectation):
    """Training has enough samples of each label."""

    kind: Text
    labels: Texts
    minimum: Whole
    success_keys: ClassVar[tuple[str, ...]] = ("kind", "labels", "minimum")

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_class_support(table, **rules)


class ExpectDeclaredSplitSizes(SampleTableExpectation):
    """Each split has as many samples as its source declares."""

    declared: Sizes
    success_keys: ClassVar[tuple[str, ...]] = ("declared",)

    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """See the check."""
        return check_split_sizes(table, **rules)
