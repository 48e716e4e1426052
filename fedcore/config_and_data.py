"""What a configuration asks for that its data cannot give."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedcore.attacks.checks import check_attacks
from fedcore.config import RunConfig
from fedcore.data.dataset import Dataset
from fedcore.data.groups import group_sizes
from fedcore.evaluation import metrics_of
from fedcore.participation import public_coin
from fedcore.privacy.group_settings import NoGroups
from fedcore.privacy.settings import PrivacySettings
from fedcore.task import Task, TaskKind

# The kind of model whose outputs are those of a language task.
WRITES_TEXTS = "causal_transformer"


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
    unknown = sorted(set(getattr(config.aggregation.client_ranks, "ranks", ())) - set(clients))
    if unknown:
        raise ValueError(
            f"aggregation.client_ranks.ranks names {unknown}; the clients are {list(clients)}."
        )
    asked = [client for client in clients if client not in rounds.exclude_clients]
    check_attacks(config, name, task, asked, kind)
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
    if config.training.augmentation.kind != "none" and kind != "image":
        raise ValueError(
            f"training.augmentation.kind={config.training.augmentation.kind!r} changes images; "
            f"{name} has inputs of kind {kind!r}. Set it to none."
        )
    _check_model(config, name, task)
    if config.training.class_weights != "none" and not task.has_classes:
        raise ValueError(
            f"training.class_weights needs classes; a {task.kind.value} task has none."
        )
    wanted = {f"evaluation.choose={choose!r}": choose}
    wanted |= {f"approvals.quality metric={one.metric!r}": one.metric for one in approvals.quality}
    for what, metric in wanted.items():
        if metric not in ("last", *metrics_of(task.kind)):
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


def _check_model(config: RunConfig, name: str, task: Task) -> None:
    """A model that writes texts learns them alone, and no other model does."""
    kind, is_language = config.model.kind, task.kind is TaskKind.LANGUAGE
    if is_language and kind != WRITES_TEXTS:
        raise ValueError(
            f"model.kind={kind!r} predicts labels; {name} is a language task, which has none. Set "
            f"model.kind: {WRITES_TEXTS}, or name a label: data.task and data.label."
        )
    if kind == WRITES_TEXTS and not is_language:
        raise ValueError(
            f"model.kind={kind!r} learns texts, not labels; {name} is a {task.kind.value} task. "
            "Set data.task: language (own texts, data.kind: text), or model.kind: text_transformer."
        )


def check_groups(privacy: PrivacySettings, dataset: Dataset) -> None:
    """Refuses budgets of groups of persons that the training records are not in.

    Raises:
      ValueError: the data say no groups, a group has no budget, or a budget no record.
    """
    settings = getattr(privacy, "groups", NoGroups())
    if isinstance(settings, NoGroups):
        return
    kind = f"privacy.groups.kind={settings.kind!r}"
    found = list(group_sizes(dataset.splits["train"].groups))
    if not found:
        raise ValueError(
            f"{kind} needs each record's group of persons, and {dataset.name} has none. Name its "
            "column or array under data.group (own tables, texts, arrays and images; heart "
            "disease), or set privacy.groups: {kind: none}."
        )
    lacking = [group for group in found if settings.budget_of(group) is None]
    if lacking:
        raise ValueError(
            f"{kind}: no budget for {lacking}. Name them under privacy.groups.epsilons, or set "
            "privacy.groups.others."
        )
    if strange := sorted(set(settings.epsilons) - set(found)):
        raise ValueError(
            f"privacy.groups.epsilons names {strange}, which no training record of {dataset.name} "
            f"is in; its groups are {found}. Correct the names."
        )
