"""The description of a model version: what a reviewer needs to decide, in markdown."""

from __future__ import annotations

from collections.abc import Sequence

from fedcore.data.own import OWN
from fedcore.decisions import Decision, Verdict
from fedcore.evaluation import HIGHER_IS_BETTER, summarise
from fedcore.report.bootstrap import Interval
from fedcore.report.tables import cell, markdown_table
from tasks.registry import tags
from tasks.registry.adapters_told import base_and_adapters, trained_parameters
from tasks.registry.artifacts import CONFIG, REPORT
from tasks.registry.champion import Comparison, Row, score_intervals
from tasks.registry.finished_run import FinishedRun


def model_card(
    run: FinishedRun, comparison: Comparison, mlflow_run_id: str, max_length: int
) -> str:
    """The card in at most ``max_length`` characters; client rows and audit findings give way."""
    intervals = score_intervals(run)
    for most_clients, audit_length in ((30, 1500), (12, 1000), (6, 600), (3, 300), (0, 120)):
        text = _card(run, comparison, intervals, mlflow_run_id, most_clients, audit_length)
        if len(text) <= max_length:
            return text
    return text[: max_length - 1] + "…"


def _card(
    run: FinishedRun,
    comparison: Comparison,
    intervals: dict[str, Interval],
    mlflow_run_id: str,
    most_clients: int,
    audit_length: int,
) -> str:
    parts = [
        f"# {run.name}",
        comparison.verdict,
        _facts(run),
        "## Scores on test data",
        _scores(run, intervals, most_clients),
    ]
    if comparison.rows:
        parts += [f"## Against champion {comparison.champion}", _table(comparison, most_clients)]
    audit = run.audit.body if run.audit else "No audit was run."
    if len(audit) > audit_length:
        audit = audit[:audit_length].rsplit("\n", 1)[0] + "\n\n… all findings: audit/audit.html"
    parts += ["## Data audit", audit, "## Reproduce", _reproduce(run, mlflow_run_id), _limits(run)]
    return "\n\n".join(parts) + "\n"


def _facts(run: FinishedRun) -> str:
    federation = run.header["federation"]["clients"]
    samples = sum(held["sizes"].get("train", 0) for held in federation.values())
    labels = ", ".join(run.task.labels[:12]) + (", …" if len(run.task.labels) > 12 else "")
    facts = {
        "predicts": f"{run.task.kind.value}: {labels}",
        "data": f"{run.dataset}, {samples} training samples at {len(federation)} clients",
        "model": f"{run.config['model']['kind']}, {trained_parameters(run.params)} "
        "trained parameters",
        **base_and_adapters(run),
        "training": f"{run.strategy}, {len(run.records)} rounds, model of round {run.round}, "
        f"seed {run.config['seed']}",
        "privacy spent (epsilon)": run.epsilon,
        "final digest": f"`{run.model_digest}`",
        "data fingerprint": f"`{run.tags[tags.DATASET_FINGERPRINT]}`",
    }
    if run.origin:
        facts["begins with"] = str(run.origin)
    for one in map(Decision.from_json, run.decisions):
        facts[f"decision {one.number}"] = shortened(str(one))
    return markdown_table(["", ""], facts.items())


def shortened(text: str, most: int = 200) -> str:
    """A text with at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _scores(run: FinishedRun, intervals: dict[str, Interval], most_clients: int) -> str:
    split = "test" if "test" in run.evaluation else next(iter(run.evaluation), None)
    if split is None:
        return "Nothing was measured."
    overall = run.evaluation[split].get("overall") or {}
    clients = run.evaluation[split].get("clients") or {}
    rows = []
    for metric in HIGHER_IS_BETTER:
        if metric not in overall:
            continue
        interval, worst = intervals.get(metric), summarise(clients, metric)
        spread = f"{interval.low:.3f} to {interval.high:.3f}" if interval else None
        rows.append([
            metric, overall[metric], spread, f"{worst[1]:.3f} ({worst[0]})" if worst else None
        ])  # fmt: skip
    table = markdown_table([f"{split} split", "overall", "95 % interval", "worst client"], rows)
    if not clients or not most_clients:
        return table
    names = [metric for metric in HIGHER_IS_BETTER if metric in overall]
    shown = _shown(sorted(clients), names[:1], clients, most_clients)
    lines = [
        [client, clients[client].get("num_examples"), *(clients[client].get(m) for m in names)]
        for client in shown
    ]
    more = len(clients) - len(shown)
    note = f"\n\n{more} clients with better scores are in {REPORT}." if more else ""
    parts = [table, *run.notes, markdown_table(["client", "samples", *names], lines) + note]
    return "\n\n".join(parts)


def _shown(
    ids: Sequence[str], metrics: Sequence[str], clients: dict, most_clients: int
) -> Sequence[str]:
    """All clients, or the worst ones by the first metric when there are more."""
    if len(ids) <= most_clients or not metrics:
        return ids[:most_clients]
    sign = 1 if HIGHER_IS_BETTER[metrics[0]] else -1
    held = [client for client in ids if metrics[0] in clients[client]]
    return sorted(held, key=lambda client: sign * clients[client][metrics[0]])[:most_clients]


def _table(comparison: Comparison, most_clients: int) -> str:
    shared = [row for row in comparison.rows if row.place in ("overall", "worst client")]
    single = [row for row in comparison.rows if row not in shared]
    single.sort(key=_gain)
    header = ["", "metric", "challenger", "champion", "difference", "95 % paired interval"]
    text = markdown_table(header, map(_line, [*shared, *single[:most_clients]]))
    more = len(single) - most_clients
    return text + (f"\n\n{more} clients that gained more are not listed." if more > 0 else "")


def _gain(row: Row) -> float:
    """How much the challenger gained; what cannot be compared comes last."""
    if row.challenger is None or row.champion is None:
        return float("inf")
    return (row.challenger - row.champion) * (1 if HIGHER_IS_BETTER[row.metric] else -1)


def _line(row: Row) -> list[object]:
    both = row.challenger is not None and row.champion is not None
    difference = f"{row.challenger - row.champion:+.3f}" if both else None
    interval = row.difference
    spread = f"{interval.low:+.3f} to {interval.high:+.3f}" if interval else None
    return [row.place, row.metric, row.challenger, row.champion, difference, spread]


def _reproduce(run: FinishedRun, mlflow_run_id: str) -> str:
    if run.origin:
        return (
            f"It begins with {run.origin}: its configuration alone does not give this model. Where "
            "that run is in the store, with the settings that changed since:\n\n"
            f"```\nfedloom run --fork {run.origin.run} --at-round {run.origin.round} -p KEY=VALUE\n"
            "```"
        )
    decisions = map(Decision.from_json, run.decisions)
    dropped = sorted(
        {client for one in decisions if one.verdict is Verdict.DROP for client in one.clients}
    )
    names = ", ".join(map(cell, dropped))
    decided = f" Decisions dropped {names}; they are to be taken again." if dropped else ""
    source = (run.header["identity"].get("provenance") or {}).get("source")
    own = "First set FEDLOOM_DATA to the folder that holds the data. " if source == OWN else ""
    return (
        "```\n"
        'eval "$(fedloom stack env)"\n'
        f"mlflow artifacts download --run-id {mlflow_run_id} "
        f"--artifact-path {CONFIG} --dst-path .\n"
        f"fedloom run {CONFIG}\n"
        "```\n"
        f"{own}It ends with final digest `{run.model_digest[:12]}` on the same code "
        f"(`{run.tags[tags.CODE_DIGEST][:12]}`), data, device kind and torch release."
        + decided
        * bool(dropped)
    )


def _limits(run: FinishedRun) -> str:
    private = run.epsilon.startswith("none")
    return (
        "## Limits\n\nFor research; not a medical device. Measured on one data set and its own "
        f"test split: {cell(run.dataset)}."
        + (" No differential privacy: updates may reveal training samples." if private else "")
    )
