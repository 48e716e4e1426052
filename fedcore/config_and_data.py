"""What a configuration asks for that its data cannot give."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedcore.attacks.checks import check_attacks
from fedcore.config import RunConfig
from fedcore.task import Task, TaskKind


def check_settings(
    config: RunConfig,
    name: str,
    task: Task,
    clients: Sequence[str],
    splits: Collection[str],
    kind: str,
) -> None:
    """Refuses settings that cannot work on this data.

    Args:
      name: of the data set.
      clients: ids of all clients.
      splits: that the data set has.
      kind: what inputs are: image, table or text.

    Raises:
      ValueError: naming the setting, its value, the rule and what would work.
    """
    rounds, choose, approvals = config.rounds, config.evaluation.choose, config.approvals
    unknown = sorted(set(rounds.exclude_clients) - set(clients))
    if unknown:
        raise ValueError(
            f"rounds.exclude_clients names {unknown}; the clients are {list(clients)}."
        )
    check_attacks(config, name, task, sorted({*clients} - {*rounds.exclude_clients}), kind)
    asked = len(clients) - len(rounds.exclude_clients)
    cohort = getattr(config.participation, "cohort_size", asked)
    if cohort > asked:
        raise ValueError(
            f"participation.cohort_size={cohort} is more than the {asked} clients of this run."
        )
    if rounds.min_clients > cohort:
        raise ValueError(
            f"rounds.min_clients={rounds.min_clients} is more than the {cohort} clients that a "
            "round of this run asks."
        )
    if config.training.augmentation.kind != "none" and kind != "image":
        raise ValueError(
            f"training.augmentation.kind={config.training.augmentation.kind!r} changes images; "
            f"{name} has inputs of kind {kind!r}. Set it to none."
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
