"""Statistics of the sites' columns: counts, means, variances, quantiles; nothing is trained."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, runtime
from pydantic import Field

from fedcore.audit.settings import AuditSettings
from fedcore.config import RunConfig, make_config
from fedcore.engines.settings import Sites
from fedcore.sites.statistics_question import StatisticsSettings
from tasks.progress import tell_end, telling
from tasks.site_statistics import ask_statistics
from tasks.sites import close_at_sites, close_sessions, open_sessions, refusing, take_up

NAME = "federated-statistics"
Purpose = Annotated[str, RunConfig.model_fields["name"]]


def run_name() -> str:
    """The purpose, as the operator reads it in lists of runs."""
    return f"statistics {dict(runtime.flow_run.parameters)['name']}"


@flow(
    name=NAME,
    flow_run_name=run_name,
    on_completion=[tell_end, close_sessions],
    on_failure=[tell_end, close_sessions],
    on_cancellation=[tell_end, close_sessions],
    on_crashed=[tell_end, close_sessions],
)
def federated_statistics(
    name: Purpose = NAME,
    statistics: StatisticsSettings = StatisticsSettings(),  # noqa: B008 - frozen
    min_sites: Annotated[int, Field(ge=1)] = 1,
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    engine: Sites = Sites(),  # noqa: B008
) -> dict[str, Any]:
    """Asks each site for figures of its columns, as far as its policy lets them out, and adds up.

    Returns the table as JSON. A run gets one table of each site: other bins are another run.

    Args:
        name: Purpose of the run, which the sites' policies look at.
        statistics: Of which rows, by label or not, and how fine.
        min_sites: So many sites must answer.
        audit: What the data are checked for, and which rows take part.
        engine: Which sites, and how long is waited for them.
    """
    run_id = str(runtime.flow_run.id)
    config = make_config(
        {
            "name": name,
            "partition": {"kind": "by_owner"},
            "preprocessing": {"standardise": "federation"},  # for the edges of bins
            "rounds": {"min_clients": min_sites},
            "audit": audit.model_dump(),
            "engine": engine.model_dump(),
        },
        source="the parameters",
    )
    with telling(run_id, 0, run_id) as tell, refusing(run_id, tell) as refused:
        opening = take_up(run_id)
        open_sessions(config, run_id, opening)
        table = ask_statistics(config, run_id, opening, statistics, refused)
        close_at_sites(config, run_id, opening)
    return table


if __name__ == "__main__":
    federated_statistics()
