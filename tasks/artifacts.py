"""What the operator reads in Prefect's console: plan, one table a round, the final report."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from fedcore.chain import Chain, RoundRecord
from fedcore.config import RunConfig
from fedcore.models.build import build_model
from fedcore.models.state import count_parameters, estimate_memory
from fedcore.plan import RunPlan
from fedcore.preflight import NOTE as PREFLIGHT
from fedcore.preflight import Preflight
from fedcore.privacy.budget import Budget
from fedcore.privacy.spending import spending
from fedcore.refs import Ref
from fedcore.report.privacy import course, course_of_run, course_table, plot_budgets
from fedcore.report.tables import image, markdown_table, round_table
from fedcore.report.words import size
from fedcore.sites.audit_entry import LogBroken
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.refusals import refusal_words, refusals_of
from tasks import home

MOST_CLIENTS = 100
"""Beyond it a table is no longer read, only scrolled."""


def model_facts(plan: RunPlan) -> dict[str, Any]:
    """Parameters, what travels a round, and memory of one training step, for people."""
    config = plan.config
    model = build_model(config.model, plan.task, plan.input_shape, config.seed)
    count = count_parameters(model)
    is_sgd = getattr(config.training, "optimizer", "adamw") == "sgd"
    moments = int(bool(getattr(config.training, "momentum", 0))) if is_sgd else 2
    memory = estimate_memory(model, plan.input_shape, config.training.batch_size, moments)
    return {
        "parameters": f"{count.total:,} ({count.trainable:,} trained and sent)",
        "update size": size(4 * count.trainable),
        "memory of a training step": size(memory.total),
    }


def refusal_facts(config: RunConfig, run_id: str) -> dict[str, Any]:
    """How often the trust boundary refused something in a run over sites, for people."""
    if config.engine.kind != "sites":
        return {}
    try:
        found = refusals_of(Coordinator(home.coordinator()).log.entries(), run_id)
    except (LogBroken, OSError) as error:
        return {"refused at the boundary": f"unknown: {error}"}
    return {"refused at the boundary": refusal_words(found) or "nothing"}


def preflight_facts(chain: Chain) -> dict[str, Any]:
    """What the run needs of this machine, and how long it will take, for people."""
    found = chain.annotation(PREFLIGHT)
    return Preflight.from_json(found).facts() if found else {}


def show_plan(plan: RunPlan, chain: Chain) -> None:
    """What will run, on how many samples where."""
    config, identity = plan.config, plan.identity
    facts = {
        "data": f"{identity['dataset']} `{identity['fingerprint'][:12]}`",
        "clients": len(plan.federation.ids),
        "rounds": config.rounds.count,
        "strategy": config.strategy.kind,
        "participation": config.participation.kind,
        "model": config.model.kind,
        **model_facts(plan),
        **preflight_facts(chain),
        "seed": config.seed,
        "config digest": f"`{identity['config']}`",
    }
    splits = ("train", "val", "test")
    shown = plan.federation.ids[:MOST_CLIENTS]
    more = len(plan.federation.ids) - len(shown)
    rows = [
        [client, *(plan.federation.clients[client].sizes.get(split, 0) for split in splits)]
        for client in shown
    ]
    parts = [
        markdown_table(["plan", ""], [[k, v] for k, v in facts.items()]),
        *(f"> {warning}" for warning in chain.annotation("warnings") or []),
        *(f"> {warning}" for warning in _preflight_warnings(chain)),
        "## Samples by client",
        markdown_table(["client", *splits], rows),
        f"{more} more clients." if more else "",
        image("Samples by client and class", _picture(chain)),
    ]
    show_markdown("plan", "\n\n".join(parts), "What will run, on how many samples where")


def show_round(plan: RunPlan, chain: Chain, record: RoundRecord) -> None:
    """One round: a row per client; where privacy is promised, also what each has spent of it."""
    title = f"Round {record.round} of {plan.config.rounds.count}"
    spent = None
    if plan.config.privacy.kind != "none":
        records = [one.to_json() for one in chain.records()]
        spent = spending(plan.config, records[: record.round])
    table = round_table(record.to_json(), spent=spent)
    show_markdown(f"round-{record.round:03d}", table, title)


def show_privacy(plan: RunPlan, chain: Chain) -> None:
    """What a private run has told, by client and round: a table and a picture; else nothing."""
    records = [one.to_json() for one in chain.records()]
    spent = spending(plan.config, records)
    if spent is None or spent.promised is None or not spent.spent:
        return
    if plan.config.privacy.kind == "client":
        everybody = "all clients together"
        budgets = {everybody: Budget(spent.promised, spent.delta)}
        courses = {everybody: course_of_run(plan.config, records)}
    else:
        budgets = {
            entry: Budget(spent.promised_to(entry) or spent.promised, spent.delta)
            for entry in spent.events
        }
        courses = {entry: course(events, budgets[entry]) for entry, events in spent.events.items()}
    picture = plot_budgets(courses, budgets, title="Privacy spent by round")
    parts = [f"Epsilon {spent}.", image("Privacy spent by round", picture)]
    parts.append(course_table(courses, budgets))
    show_markdown("privacy", "\n\n".join(parts), "What the run has told, its epsilon")


def show_report(markdown: str, links: dict[str, str]) -> None:
    """The final report with its pictures, and links to where the model version is reviewed."""
    show_markdown("report", markdown, "How the run went")
    for text, link in links.items():
        key = "".join(c if c.isalnum() else "-" for c in text.lower())
        create_link_artifact(link=link, link_text=text, key=key, description=f"{text} in MLflow")


def _preflight_warnings(chain: Chain) -> list[str]:
    found = chain.annotation(PREFLIGHT) or {}
    return [*found.get("problems", []), *found.get("warnings", [])]


def _picture(chain: Chain) -> bytes:
    return chain.store.get(Ref(**chain.annotation("partition")["picture"]))


def show_markdown(key: str, markdown: str, description: str) -> None:
    """An artifact of the flow run."""
    create_markdown_artifact(markdown, key=key, description=description)
