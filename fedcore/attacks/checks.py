"""Runs whose clients cannot be attacked, or would be for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedcore.privacy.group_settings import NoGroups
from fedcore.task import Task, TaskKind

if TYPE_CHECKING:
    from fedcore.config import RunConfig

HIDES_CLIENTS = (
    "privacy.kind=client adds its noise to the sum of all clients, whose parts the coordinator "
    "sees; attacks on one client say nothing of it."
)
PROMISES_GROUPS = (
    "privacy.groups promises each group of persons its own epsilon; the rows that an attack plants "
    "are of no group. Audit the same settings with privacy.groups: {kind: none} and the epsilon of "
    "one group."
)
ONE_LABEL = (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.ORDINAL)


def futile_attacks(config: RunConfig) -> str | None:
    """Why ``attacks`` cannot be with the other settings, and the way out; None when they can."""
    if config.attacks.kind == "none":
        return None
    if config.privacy.kind == "client":
        return f"{HIDES_CLIENTS} Set attacks.kind to none, or take privacy.kind example or local."
    if promises_groups(config):
        return PROMISES_GROUPS
    if config.engine.kind == "sites":
        return (
            "attacks.kind=audit needs a client's rows, and engine.kind=sites leaves them at the "
            "sites. Set it to none; attack the same settings with the flow audit-privacy where "
            "rows are: at a site, on its own, or here, on public ones."
        )
    if not config.registry.register_model:
        return (
            "attacks.kind=audit is for the model version that registry.register_model=false leaves "
            "out; set one of them otherwise, or attack the settings alone: flow audit-privacy."
        )
    return None


def promises_groups(config: RunConfig) -> bool:
    """Whether groups of persons have budgets of their own."""
    return getattr(config.privacy, "groups", NoGroups()).kind != "none"


def check_attacks(
    config: RunConfig, name: str, task: Task, clients: Sequence[str], kind: str
) -> None:
    """Refuses attacks that cannot work on this data, before anything is trained.

    Args:
      name: of the data set.
      clients: ids of those that the run asks.
      kind: what inputs are: image, table or text.

    Raises:
      ValueError: naming the setting, its value, the rule and what would work.
    """
    if config.attacks.kind == "none":
        return
    if task.kind not in ONE_LABEL:
        raise ValueError(
            f"attacks.kind=audit needs one label for each record; {name} is a {task.kind.value} "
            "task. Set it to none."
        )
    if kind == "text":
        raise ValueError(
            f"attacks.kind=audit draws images or rows of a table as canaries; {name} has texts. "
            "Set it to none."
        )
    wanted = config.attacks.client
    if wanted and wanted not in clients:
        raise ValueError(
            f"attacks.client={wanted!r} is none of this run's clients: "
            f"{', '.join(sorted(clients)[:20])}. Leave it empty for the one with the fewest rows."
        )
