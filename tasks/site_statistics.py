"""Statistics of the sites' columns as a task, and what the operator reads of them."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from fedcore.audit.audit import require_passed
from fedcore.config import RunConfig
from fedcore.report.tables import image
from fedcore.sites.federated_statistics import merged
from fedcore.sites.refusals import Refused
from fedcore.sites.statistics_picture import statistics_picture
from fedcore.sites.statistics_question import StatisticsSettings
from tasks.artifacts import show_markdown
from tasks.audit import show_audit
from tasks.sites import invitation_of

KEY = "statistics"


@task(task_run_name="statistics", cache_policy=NO_CACHE, result_serializer="json")
def ask_statistics(
    config: RunConfig, run_id: str, opening: int, question: StatisticsSettings, refused: Refused
) -> dict[str, Any]:
    """Has the sites describe their data, then tell of their columns; returns what they told, added
    up, as JSON.

    Raises:
      DataAuditFailed: the audit of all sites is not passed.
      TooFewSites, SitesDiffer: fewer answer than are needed, or one has other columns.
    """
    invitation = invitation_of(config, run_id, opening, refused)
    gathering = invitation.gathering(get_run_logger().info)
    descriptions, report, drop = gathering.describe(config, invitation.salt)
    show_audit(report, "data-audit")
    require_passed(report)
    wanted = question.wanted(descriptions)
    told = gathering.statistics(config, invitation.salt, wanted, drop)
    pooled = merged(told)
    picture = image("Mean and spread by site", statistics_picture(told, pooled))
    about = f"Of the {wanted.split} rows of {len(told) - len(pooled.left_out)} sites."
    text = f"# Statistics of the sites\n\n{about} {_EXPLAINED}\n\n{pooled.to_markdown()}"
    show_markdown(KEY, f"{text}\n\n{picture}", "What the sites hold, without a row of it")
    return pooled.to_json()


_EXPLAINED = (
    "Rows: that have a value. A quantile is within what follows it; `open`: it lies beyond the "
    "outer edge that is shown. Too small at: there a group of fewer rows than the site lets out "
    "could be told from the figures, so the column is not in them."
)
