"""The attacks of a privacy audit as tasks, each with its own artifact; and the verdict's.

The auditor's secret is drawn anew in each task and kept nowhere: the coins are decided by nothing
that the training or its configuration knows.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from fedcore.attacks.audits import inversion_audit, membership_audit, one_run_audit
from fedcore.attacks.claim import accounted
from fedcore.attacks.client import AttackedClient, attacked_client
from fedcore.attacks.picture import reconstruction_picture
from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.attacks.verdict import Verdict, judge
from fedcore.audit.report import AuditReport
from fedcore.config import RunConfig
from fedcore.data.materialise import get_dataset
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.privacy.secret_stream import SECRET_BYTES
from fedcore.refs import Ref
from fedcore.report.tables import image, markdown_table
from tasks import home

NOTHING_CLAIMED_DELTA = 1e-5


@task(task_run_name="one-run-audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_claim(
    config: RunConfig, data: Ref, audited: dict[str, Any], attacks: PrivacyAuditSettings
) -> dict[str, Any]:
    """The verdict on the claimed epsilon, as JSON, with the twin that has no noise."""
    client, secret = _attacked(config, data, audited, attacks), secrets.token_bytes(SECRET_BYTES)
    claimed, delta = claim_of(config, client)

    def bound(of):
        return one_run_audit(
            of,
            delta=delta,
            canaries=attacks.canaries,
            secret=secret,
            seed=config.seed,
            sees=attacks.sees,
            confidence=attacks.confidence,
        )

    verdict = judge(claimed, bound(client), bound(client.with_noise(0)))
    show_verdict(verdict, client)
    return verdict.to_json() | {"client": client.name}


@task(task_run_name="membership-audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_membership(
    config: RunConfig, data: Ref, audited: dict[str, Any], attacks: PrivacyAuditSettings
) -> dict[str, Any]:
    """How well LiRA tells the client's rows from others, as JSON."""
    client = _attacked(config, data, audited, attacks)
    found = membership_audit(
        client,
        secret=secrets.token_bytes(SECRET_BYTES),
        seed=config.seed,
        records=attacks.records,
        models=attacks.shadow_models,
    )
    rows = [["AUC", str(found.auc)]]
    rows += [[f"true positives at {rate:.1%} false ones", str(tpr)] for rate, tpr in
             found.tpr.items()]  # fmt: skip
    text = (
        f"Client {client.name}: {found.records} rows, {found.models} shadow models. AUC 0.5 tells "
        f"nothing, 1 everything.\n\n{markdown_table(['attack', 'found [95 %]'], rows)}"
    )
    create_markdown_artifact(
        text, key="membership-audit", description="Membership inference with shadow models (LiRA)"
    )
    return found.to_json()


@task(task_run_name="reconstruction-audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_reconstruction(
    config: RunConfig, data: Ref, audited: dict[str, Any], attacks: PrivacyAuditSettings
) -> list[dict[str, Any]]:
    """How like some rows what one update shows of them is; the picture stays in the console."""
    client, secret = _attacked(config, data, audited, attacks), secrets.token_bytes(SECRET_BYTES)
    found = [
        inversion_audit(client, secret=secret, seed=config.seed, record=record, steps=attacks.steps)
        for record in range(min(attacks.reconstructions, len(client.rows)))
    ]
    rows = [
        [number, each.method, each.likeness.cosine, each.likeness.psnr, each.likeness.ssim]
        for number, each in enumerate(found, 1)
    ]
    parts = [
        f"Client {client.name}: one step on one row, clipped and noised as in round 1.",
        markdown_table(["row", "attack", "cosine", "PSNR (dB)", "SSIM"], rows),
    ]
    if found and found[0].original.ndim == 3:
        low = min(float(each.original.min()) for each in found)
        high = max(float(each.original.max()) for each in found)
        picture = reconstruction_picture(
            [each.original for each in found],
            {"reconstructed": [each.reconstruction for each in found]},
            low=low,
            high=high,
        )
        parts.append(image("Rows and their reconstructions", picture))
    create_markdown_artifact(
        "\n\n".join(parts),
        key="reconstruction-audit",
        description="What one update shows of one row",
    )
    return [asdict(each.likeness) | {"method": each.method} for each in found]


def claim_of(config: RunConfig, client: AttackedClient) -> tuple[float, float]:
    """(epsilon, delta) that the configuration claims; what its noise costs where it names none."""
    privacy = getattr(config, "privacy", None)
    delta = getattr(privacy, "delta", None) or NOTHING_CLAIMED_DELTA
    return getattr(privacy, "epsilon", None) or accounted(client, delta), delta


def show_verdict(verdict: Verdict, client: AttackedClient) -> None:
    """PASS or FAIL with its numbers, as an artifact."""
    rows = [
        [name, each.epsilon, each.canaries, each.guesses, each.correct]
        for name, each in (("as configured", verdict.bound), ("without its noise", verdict.twin))
    ]
    header = ["training", "epsilon is at least", "canaries", "guesses", "right"]
    text = f"**{verdict}**\n\nClient {client.name}, {len(client.rows)} rows.\n\n"
    create_markdown_artifact(
        text + markdown_table(header, rows),
        key="privacy-verdict",
        description="Does the privacy claim stand? One training run with canaries",
    )


def _attacked(
    config: RunConfig, data: Ref, audited: dict[str, Any], attacks: PrivacyAuditSettings
) -> AttackedClient:
    """The client as the run with this configuration would plan it."""
    store = home.store()
    dataset = get_dataset(store, data)
    dropped = AuditReport.from_json(audited).exclusions
    partition = make_partition(dataset, config.partition, config.seed, dropped)
    plan = prepare(config, dataset, partition, store)
    sizes = {name: held.sizes["train"] for name, held in plan.federation.clients.items()}
    name = attacks.client or min(sizes, key=lambda each: (sizes[each], each))
    if name not in sizes:
        raise ValueError(
            f"attacks.client={name!r} is none of this run's clients: "
            f"{', '.join(sorted(sizes)[:20])}. Leave it empty for the one with the fewest rows."
        )
    return attacked_client(plan, plan.federation.load(store, name, "train"), name)
