"""The gate: a suite of expectations run on a sample table, in memory and without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcore.audit.finding import Finding

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

SUITES = Path(__file__).parent / "suites"


def validate(table: pd.DataFrame, suite: str, rules: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings of a suite in ``expectations/suites`` on a sample or placement table.

    Takes the place of ``fedcore.audit.audit.run_checks``: same arguments, same findings.

    Args:
      suite: name of the file, without ``.json``.
      rules: values of the suite's parameters, from ``fedcore.audit.checks.catalogue.rules_of``.

    Raises:
      ValueError: no such suite.
      RuntimeError: an expectation could not be evaluated; a gate that cannot tell stays shut.
    """
    result = run_suite(table, suite, rules)
    findings = []
    for one in result.results:
        if "details" not in one.result:
            problem = (one.exception_info or {}).get("exception_message", one.result)
            raise RuntimeError(
                f"expectation {one.expectation_config.type} of suite {suite!r} could not be "
                f"evaluated: {problem}. The data was not judged."
            )
        findings += [Finding.from_json(value) for value in one.result["details"]["findings"]]
    return tuple(findings)


def run_suite(
    table: pd.DataFrame, suite: str, rules: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    """Great Expectations' own result of a suite, for who wants to look inside."""
    path = SUITES / f"{suite}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SUITES.glob("*.json")))
        raise ValueError(f"suite={suite!r} has no file in {SUITES.name}/; there are {known}.")
    # Read when great_expectations is imported: nothing is sent anywhere.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # Importing it costs seconds of CPU: only who opens the gate pays.
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
    )

    import expectations.clients
    import expectations.content
    import expectations.leakage  # noqa: F401  importing registers the classes that suites name

    # In memory; without the folder under /tmp that each context would leave for its documents.
    memory = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    config = DataContextConfig(store_backend_defaults=memory, analytics_enabled=False)
    context = gx.get_context(mode="ephemeral", project_config=config)
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("samples")
    batch = (
        source.add_dataframe_asset(name=suite)
        .add_batch_definition_whole_dataframe("whole")
        .get_batch(batch_parameters={"dataframe": table})
    )
    wanted = gx.ExpectationSuite(**json.loads(path.read_text(encoding="utf-8")))
    parameters = {name: rules[name] for name in parameters_of(wanted)}
    return batch.validate(wanted, expectation_parameters=parameters)


def parameters_of(suite: Any) -> tuple[str, ...]:
    """Names of the parameters that a suite leaves open."""
    return tuple(
        sorted(
            {
                value["$PARAMETER"]
                for one in suite.expectations
                for value in one.configuration.kwargs.values()
                if isinstance(value, dict) and "$PARAMETER" in value
            }
        )
    )
