"""The attacks of a privacy audit as tasks, each with its own artifact: of a run before its
registration, and of a configuration alone.

The auditor's secret is drawn anew in each task and kept nowhere: the coins are decided by nothing
that the training or its configuration knows.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from fedcore.attacks.audits import Inversion, inversion_audit, membership_audit, one_run_audit
from fedcore.attacks.claim import claim_of
from fedcore.attacks.client import AttackedClient, attacked_client, choose_client
from fedcore.attacks.found import CLAIM, MEMBERSHIP, RECONSTRUCTION, Found, note
from fedcore.attacks.picture import reconstruction_picture
from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.attacks.verdict import Verdict
from fedcore.audit.report import AuditReport
from fedcore.chain import Chain
from fedcore.config import RunConfig
from fedcore.data.materialise import get_dataset
from fedcore.digests import canonical_json
from fedcore.events import Emit
from fedcore.facts import stage, warning
from fedcore.partition.make import make_partition
from fedcore.plan import RunPlan, prepare
from fedcore.privacy.secret_stream import SECRET_BYTES
from fedcore.refs import Ref
from fedcore.report.tables import image, markdown_table
from tasks import home

Once = Callable[[str, Callable[[], Any]], Any]


def attack_plan(plan: RunPlan, once: Once) -> Found:
    """What the attacks that a plan asks for find, one task each.

    Args:
      plan: with what people decided.
      once: answers by an attack's name what an earlier call found, or calls and keeps it.
    """
    asked = plan.config.attacks
    attacks = asked.model_copy(update={"client": choose_client(plan, asked.client)})
    held = home.store().put(canonical_json(plan.header()).encode(), "plan")
    return Found.from_json({
        name: once(name, lambda attack=attack: attack(held, attacks))
        for name, attack, is_wanted in (
            (CLAIM, audit_claim, True),
            (MEMBERSHIP, audit_membership, attacks.shadow_models),
            (RECONSTRUCTION, audit_reconstruction, attacks.reconstructions),
        )
        if is_wanted
    })  # fmt: skip


def attack_run(plan: RunPlan, chain: Chain, tell: Emit) -> None:
    """Attacks a run before its registration, where its configuration asks for that.

    What is found is kept beside the chain and stands: a run that is tried again is not attacked
    again until it passes by chance.
    """
    if plan.config.attacks.kind == "none":
        return
    tell(stage("attacks"))

    def once(name, attack):
        if (found := chain.annotation(note(name))) is None:
            chain.annotate(note(name), found := attack())
        return found

    verdict = attack_plan(plan, once).verdict
    if verdict.word in ("refuted", "inconclusive"):
        tell(warning(str(verdict)))


@task(task_run_name="plan", cache_policy=NO_CACHE, result_serializer="json")
def plan_attacks(config: RunConfig, data: Ref, audited: dict[str, Any]) -> Ref:
    """The plan of a run with this configuration, of which nothing but the attacks happens."""
    store = home.store()
    dataset, dropped = get_dataset(store, data), AuditReport.from_json(audited).exclusions
    partition = make_partition(dataset, config.partition, config.seed, dropped)
    plan = prepare(config, dataset, partition, store)
    return store.put(canonical_json(plan.header()).encode(), "plan")


def planned(held: Ref) -> RunPlan:
    """The plan in the store."""
    return RunPlan.from_header(json.loads(home.store().get(held)))


@task(task_run_name="one-run-audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_claim(held: Ref, attacks: PrivacyAuditSettings) -> dict[str, Any]:
    """The verdict on the claimed epsilon, as JSON, with the twin that has no noise."""
    plan, secret = planned(held), secrets.token_bytes(SECRET_BYTES)
    client = _attacked(plan, attacks)
    claimed, delta = claim_of(plan.config.privacy, client)

    def bound(of):
        return one_run_audit(
            of,
            delta=delta,
            canaries=attacks.canaries,
            secret=secret,
            seed=client.seed,
            sees=attacks.sees,
            confidence=attacks.confidence,
        )

    verdict = Verdict(claimed, bound(client), bound(client.with_noise(0)))
    show_verdict(verdict, client)
    return verdict.to_json() | {"client": client.name}


@task(task_run_name="membership-audit", cache_policy=NO_CACHE, result_serializer="json")
def audit_membership(held: Ref, attacks: PrivacyAuditSettings) -> dict[str, Any]:
    """How well LiRA tells the client's rows from others, as JSON."""
    client = _attacked(planned(held), attacks)
    found = membership_audit(
        client,
        secret=secrets.token_bytes(SECRET_BYTES),
        seed=client.seed,
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
def audit_reconstruction(held: Ref, attacks: PrivacyAuditSettings) -> dict[str, Any]:
    """How like some rows what one update shows of them is, as JSON; and a picture of what it shows.

    The rows themselves are on the run's page alone.
    """
    client, secret = _attacked(planned(held), attacks), secrets.token_bytes(SECRET_BYTES)
    found = [
        inversion_audit(client, secret=secret, seed=client.seed, record=record, steps=attacks.steps)
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
    kept = None
    if found[0].original.ndim == 3:
        parts.append(image("Rows and their reconstructions", _picture(found, beside_rows=True)))
        kept = vars(home.store().put(_picture(found, beside_rows=False), "picture")) | {}
    create_markdown_artifact(
        "\n\n".join(parts),
        key="reconstruction-audit",
        description="What one update shows of one row",
    )
    told = [each.likeness.to_json() | {"method": each.method} for each in found]
    return {"rows": told, "picture": kept}


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


def _picture(found: list[Inversion], *, beside_rows: bool) -> bytes:
    return reconstruction_picture(
        [each.original for each in found] if beside_rows else None,
        {"reconstructed": [each.reconstruction for each in found]},
        low=min(float(each.original.min()) for each in found),
        high=max(float(each.original.max()) for each in found),
        captions={"reconstructed": [f"cosine {each.likeness.cosine:.2f}" for each in found]},
    )


def _attacked(plan: RunPlan, attacks: PrivacyAuditSettings) -> AttackedClient:
    """The client as the plan has it train."""
    rows = plan.federation.load(home.store(), attacks.client, "train")
    return attacked_client(plan, rows, attacks.client)
