"""The plan of a run whose rows never meet, from what each site said of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedcore.config import RunConfig
from fedcore.config_and_data import check_settings
from fedcore.digests import canonical_json, digest_json
from fedcore.federation import CENTRAL, Federation, Holding
from fedcore.models.preprocess import TablePreprocess
from fedcore.moments import merged, standardiser
from fedcore.plan import RunPlan, assemble, federation_weights
from fedcore.refs import Ref
from fedcore.sites.description import Description, shard_name
from fedcore.sites.inquiry import Inquiry, Preparation, Scaling
from fedcore.sites.shared import Drop, fingerprint, in_order, shared_samples
from fedcore.store import Store


class SitesDiffer(ValueError):
    """A site has other data than the rest; the message names it and what differs."""


def inquiries(config: RunConfig, sites: Sequence[str], salt: str, drop: Drop) -> dict[str, Inquiry]:
    """Site -> what it is asked to say of its data.

    Args:
      salt: 64 hex digits that the coordinator drew for this run.
      drop: what :func:`fedcore.sites.shared.audit_sites` found; empty at first.
    """
    scope = config.preprocessing.standardise
    return {site: Inquiry(config.audit, scope, salt, drop.get(site, {})) for site in sites}


def preparations(
    config: RunConfig, descriptions: Sequence[Description], salt: str, drop: Drop
) -> dict[str, Preparation]:
    """Site -> how it prepares its data, once all have said what is left of them.

    Raises:
      SitesDiffer, ValueError: as :func:`plan_of_sites`.
    """
    sites = in_order(descriptions)
    require_alike(sites)
    scaling = _scaling(config, sites)
    asked = inquiries(config, [one.client for one in sites], salt, drop)
    return {site: Preparation(inquiry, scaling) for site, inquiry in asked.items()}


def plan_of_sites(config: RunConfig, descriptions: Sequence[Description], store: Store) -> RunPlan:
    """The plan of a run over sites, without a row; its first model goes to the store.

    With the same rows in one process (``partition: {kind: by_owner}``) every round has the same
    model. There are no central data: a split's overall metrics are the mean over sites.

    Args:
      descriptions: what is left at each site once it has dropped what it was asked to.

    Raises:
      SitesDiffer: a site has another task, features or input shape than the rest.
      ValueError: settings that cannot work on these data, or samples that two sites still share.
    """
    sites = in_order(descriptions)
    require_alike(sites)
    _check(config, sites)
    _, undone = shared_samples(sites, config.audit)
    if undone:
        raise ValueError(
            f"site {min(undone)!r} still has samples that another site holds, though audit.remedy="
            "'drop-from-train'; ask it again with what the audit of the sites says to drop."
        )
    first, how = sites[0], _scaling(config, sites)
    shared = {CENTRAL: how, **{one.client: how for one in sites}}
    federation = Federation({one.client: holding_of(one, how) for one in sites}, {}, {})
    return assemble(
        config,
        store,
        task=first.task,
        features=first.features,
        shape=first.input_shape,
        federation=federation,
        class_weights=federation_weights(config, first.task, federation),
        # What a site's own rows scale by is its own business.
        scaling={
            client: one.to_json()
            for client, one in shared.items()
            if isinstance(one, TablePreprocess)
        },
        about={
            "dataset": first.dataset,
            "fingerprint": fingerprint(sites),
            "provenance": {"source": "sites", "sites": [one.client for one in sites]},
            "partition": digest_json({one.client: dict(one.sizes) for one in sites}),
        },
    )


def require_alike(sites: Sequence[Description]) -> None:
    """All sites describe the same inputs and targets; those of most sites are the measure.

    Raises:
      SitesDiffer: one does not.
    """
    for what, of in _SAME.items():
        said = [canonical_json(of(one)) for one in sites]
        usual = max(said, key=said.count)
        others = [one.client for one, text in zip(sites, said, strict=True) if text != usual]
        if others:
            verb = "has" if len(others) == 1 else "have"
            raise SitesDiffer(
                f"{', '.join(others)} {verb} another {what} than most sites; all need the same. "
                "Mend the data settings there, or invite the other sites alone."
            )


_SAME: dict[str, Any] = {
    "task": lambda one: one.task.to_json(),
    "description of inputs": lambda one: dict(one.features),
    "input shape": lambda one: list(one.input_shape),
    "data set": lambda one: one.dataset,
}


def _check(config: RunConfig, sites: Sequence[Description]) -> None:
    kind = config.partition.kind
    if kind != "by_owner":
        raise ValueError(
            f"partition.kind={kind!r} divides rows, but sites hold their own: one site is one "
            "client. Set partition.kind: by_owner."
        )
    first = sites[0]
    splits = {split for one in sites for split in one.sizes}
    clients = [one.client for one in sites]
    check_settings(config, first.dataset, first.task, clients, splits, first.kind)
    looks = config.evaluation.choose != "last" or bool(config.approvals.quality)
    if looks and not config.evaluation.clients:
        raise ValueError(
            "evaluation.clients=false measures nothing where there are no central data, and "
            "evaluation.choose or approvals.quality look at scores. Set evaluation.clients: true."
        )


def _scaling(config: RunConfig, sites: Sequence[Description]) -> Scaling:
    """What the coordinator answers to all sites."""
    scope = config.preprocessing.standardise
    if sites[0].kind != "table":
        return None
    if scope != "federation":
        return "own" if scope == "client" else TablePreprocess()
    parts = []
    for one in sites:
        if one.moments is None:
            raise ValueError(
                f"site {one.client!r} gave no moments of its rows, which preprocessing.standardise="
                "'federation' needs. Let its policy give them, or set client or none."
            )
        parts.append(one.moments)
    return standardiser(merged(parts))


def holding_of(one: Description, how: Scaling) -> Holding:
    """What a site holds, by the names of its shards; their bytes are nobody else's business."""
    blobs = {split: Ref(shard_name(name, how), 0, "shard") for split, name in one.names.items()}
    return Holding(blobs, dict(one.sizes), one.train_labels)
