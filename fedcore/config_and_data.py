"""What a configuration asks for that its data cannot give."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedcore.config import RunConfig
from fedcore.participation import public_coin
from fedcore.task import Task, TaskKind


def check_settings(
    config: RunConfig,
    name: str,
    task: Task,
    clients: Sequence[str],
    splits: Collection[str],
    is_image: bool,
) -> None:
    """Refuses settings that cannot work on this data.

    Args:
      name: of the data set.
      clients: ids of all clients.
      splits: that the data set has.
      is_image: whether inputs are images.

    Raises:
      ValueError: naming the setting, its value, the rule and what would work.
    """
    rounds, choose, approvals = config.rounds, config.evaluation.choose, config.approvals
    unknown = sorted(set(rounds.exclude_clients) - set(clients))
    if unknown:
        raise ValueError(
            f"rounds.exclude_clients names {unknown}; the clients are {list(clients)}."
        )
    asked = [client for client in clients if client not in rounds.exclude_clients]
    cohort = config.participation.least(asked, public_coin(config.seed))
    if cohort > len(asked):
        raise ValueError(
            f"participation.cohort_size={cohort} is more than the {len(asked)} clients of this run."
        )
    if rounds.min_clients > cohort:
        raise ValueError(
            f"rounds.min_clients={rounds.min_clients} is more than the {cohort} clients that a "
            "round of this run asks."
        )
    if config.training.augmentation.kind != "none" and not is_image:
        raise ValueError(
            f"training.augmentation.kind={config.training.augmentation.kind!r} changes images; "
            f"{name} is a table. Set it to none."
        )
    is_regression = task.kind is TaskKind.REGRESSION
    if config.training.class_weights != "none" and is_regression:
        raise ValueError("training.class_weights needs classes; a regression task has none.")
    wanted = {f"evaluation.choose={choose!r}": choose}
    wanted |= {f"approvals.quality metric={one.metric!r}": one.metric for one in approvals.quality}
    for what, metric in wanted.items():
        if metric in ("accuracy", "auc", "balanced_accuracy") if is_regression else metric == "r2":
            raise ValueError(f"{what} is not measured in a {task.kind.value} task.")
    if not {"val"} & {*config.evaluation.splits} & {*splits}:
        has = f"{name} has {sorted(splits)} and evaluation.splits is {[*config.evaluation.splits]}."
        if choose != "last":
            raise ValueError(
                f"evaluation.choose={choose!r} needs a validation split; {has} "
                "Set evaluation.choose: last."
            )
        if approvals.quality:
            raise ValueError(f"approvals.quality needs a validation split; {has} Leave it empty.")
