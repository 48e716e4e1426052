"""What a promise cannot be kept with, and what it does not speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcore.privacy.group_settings import NoGroups
from fedcore.privacy.settings import ClientLevel, ExampleLevel

if TYPE_CHECKING:
    from fedcore.config import RunConfig


def broken_promise(config: RunConfig) -> str | None:
    """Why these settings cannot keep ``privacy``, with the way out; None when they can."""
    privacy, training = config.privacy, config.training
    if isinstance(privacy, ExampleLevel):
        if not isinstance(privacy.groups, NoGroups) and config.engine.kind == "sites":
            return (
                f"privacy.groups.kind={privacy.groups.kind!r} needs to know how many records of "
                "each group a client holds, which sites do not tell. Set privacy.groups: {kind: "
                "none}; what a site's records may tell is in its own policy (privacy_budget)."
            )
        if training.class_weights != "none":
            return (
                f"training.class_weights={training.class_weights!r} looks at the labels outside "
                "of the mechanism of privacy.kind=example; set it to none."
            )
        if training.max_grad_norm is not None:
            return (
                f"training.max_grad_norm={training.max_grad_norm:g} scales the noisy gradient a "
                "second time; set it to null: privacy.clip_norm scales each record's."
            )
    if isinstance(privacy, ClientLevel):
        return _broken_client_level(config, privacy)
    return None


def _broken_client_level(config: RunConfig, privacy: ClientLevel) -> str | None:
    if config.participation.kind == "fixed":
        return (
            "participation.kind=fixed draws a number of clients that the accountant of "
            "privacy.kind=client does not count (it would report half of the true epsilon); take "
            "poisson, cyclic or everybody."
        )
    if config.participation.kind == "poisson" and privacy.correlation != "none":
        return (
            f"participation.kind=poisson with privacy.correlation={privacy.correlation!r}: coins "
            "may ask a client in rounds that follow one another, whose noise is tied together, and "
            "its epsilon is not known then. Take cyclic, or correlation none."
        )
    if config.evaluation.clients:
        return (
            "evaluation.clients=true measures each client outside of the mechanism of "
            "privacy.kind=client; set it to false. The model is measured on the central data."
        )
    if (config.aggregation.weighting == "examples") != (privacy.examples_cap is not None):
        return (
            f"aggregation.weighting={config.aggregation.weighting!r} with privacy.examples_cap="
            f"{privacy.examples_cap}: unbounded weights cannot be hidden. Take uniform without a "
            "cap, or examples with one."
        )
    if getattr(config.engine, "late", "refuse") == "stale":
        return (
            "engine.late=stale lets a client count twice in a round, which privacy.kind=client "
            "does not count; set it to refuse."
        )
    return None


def uncovered(config: RunConfig) -> tuple[str, ...]:
    """Sentences on what a private run does that its epsilon does not speak of."""
    privacy = config.privacy
    if privacy.kind == "none":
        return ()
    said = []
    if privacy.secret == "fixed":
        said.append("Not private: the noise comes from a fixed secret that everybody can compute.")
    said.append(
        "Epsilon does not cover: the number of examples of each client, the data audit and "
        "settings that were tuned on this data."
    )
    if getattr(privacy, "groups", NoGroups()).kind != "none":
        said.append(
            "Epsilon does not cover which group of persons a record is in, nor how many of a "
            "client's are in each: rates or clip norms follow from that. A person with records in "
            "two groups has told what both may tell."
        )
    if config.preprocessing.standardise != "none":
        said.append(
            "Epsilon does not cover the means and variances of table columns "
            f"(preprocessing.standardise={config.preprocessing.standardise!r})."
        )
    if config.evaluation.choose != "last":
        said.append(
            "Epsilon does not cover the choice of the round on validation data "
            f"(evaluation.choose={config.evaluation.choose!r})."
        )
    if config.attacks.kind != "none":
        said.append(
            "Epsilon does not cover what the attacks show of the attacked client's records: their "
            "numbers, and pictures of reconstructions (attacks.kind='audit')."
        )
    if config.evaluation.clients:
        said.append(
            "Epsilon is of training records; scores on each client's validation and test records "
            "are exact."
        )
    return tuple(said)
