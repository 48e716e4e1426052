"""What a run asks a site for, in words for its administrator."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedcore.config import RunConfig
    from fedcore.sites.requested import Requested


def settings_words(config: RunConfig) -> str:
    """All that a run's results depend on, and its digest is of, as YAML.

    The coordinator wrote them: what could steer a terminal is escaped.
    """
    import yaml

    values = config.model_dump(mode="json", exclude={"speed", "engine", "approvals"})
    return str(yaml.safe_dump(values, sort_keys=False))


def choice_words(config: RunConfig) -> list[str]:
    """The main choices of a run, one sentence each."""
    training, rounds = config.training, config.rounds.count
    passes = f"{training.steps} steps" if training.steps else f"{training.epochs or 1} passes"
    scaling = {
        "client": "Columns are scaled by this site's own rows.",
        "federation": "Columns of tables are scaled alike at all sites: the exact mean and "
        "variance of each leave.",
        "none": "Columns are not scaled.",
    }
    splits, every = " and ".join(config.evaluation.splits), config.evaluation.every
    return [
        f"A {config.model.kind} model is trained for {rounds} rounds by {config.strategy.kind}; in "
        f"each the site makes {passes} over its training rows, {training.batch_size} at a time.",
        f"It is measured on the site's own {splits} rows after every "
        f"{'round' if every == 1 else f'{every} rounds'}."
        if config.evaluation.clients and splits
        else "It is not measured on the site's rows.",
        scaling[config.preprocessing.standardise],
    ]


def program_words(code: str) -> str:
    """Whether a program is the one that is installed here."""
    from fedcore.numerics import code_digest

    if code == code_digest():
        return "(the program that is installed here)"
    return "(another program than is installed here, so that the site would not answer)"


def asking_words(one: Requested, folder: Path) -> list[str]:
    """What a run that is to be approved asks for, and how to approve it."""
    return [
        f"purpose  {one.config.name}",
        f"plan     {one.plan}",
        f"code     {one.code}  {program_words(one.code)}",
        *choice_words(one.config),
        f"fedloom site approve {one.run} --folder {shlex.quote(str(folder))}",
    ]
