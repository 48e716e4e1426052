"""The base of our expectations: a check of ``fedcore.audit`` as a Great Expectations class.

Expectations see the sample table (one row of facts per sample), never the data. Everything that
decides is in ``fedcore.audit.checks``; a class here names its check and the rules it takes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.suite_parameters import SuiteParameterDict
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from fedcore.audit.finding import Finding

Text = str | SuiteParameterDict
Texts = list[str] | SuiteParameterDict
Whole = int | SuiteParameterDict
MaybeWhole = int | SuiteParameterDict | None
MaybeNumber = float | SuiteParameterDict | None
Sizes = dict[str, Any]  # a suite parameter is a dict as well

METRIC = "fedloom.sample_table"


class SampleTable(TableMetricProvider):
    """The batch itself: our checks read several columns at once."""

    metric_name = METRIC

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> pd.DataFrame:
        table, _, _ = execution_engine.get_compute_domain(
            domain_kwargs=metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE
        )
        return table


class SampleTableExpectation(BatchExpectation, ABC):
    """An expectation that holds when its check finds nothing; the findings are in its result."""

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)

    @abstractmethod
    def find(self, table: pd.DataFrame, rules: dict[str, Any]) -> tuple[Finding, ...]:
        """The check's findings, ``rules`` being the values of ``success_keys``."""

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        given = self._get_success_kwargs()
        rules = {name: given.get(name) for name in self.success_keys}
        findings = [finding.to_json() for finding in self.find(metrics[METRIC], rules)]
        observed = sum(finding["count"] for finding in findings)
        return {
            "success": not findings,
            "result": {"observed_value": observed, "details": {"findings": findings}},
        }
