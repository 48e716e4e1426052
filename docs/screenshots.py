"""Renews the pictures in docs/images: an operator's day on a running stack, in a real browser.

    fedloom deploy                            # for the scene `sites`: fedloom federation up
    python docs/screenshots.py                # all scenes, a quarter of an hour
    python docs/screenshots.py pause refuse   # only these

The runs are real and stay in the stack: take a home of your own for it. Needs Chromium (Debian:
apt install chromium) and FEDLOOM_DATA with PneumoniaMNIST.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from browser import Browser
from console import HEIGHT, WIDTH, Console, dialog, field, new_seed, see_message, until_quiet

from deployments.stack.lifecycle import running_stack
from deployments.stack.stack import access, stack_home

# Client tasks of some seconds, so that there is time to press something.
SLOW: dict[str, Any] = {
    "training": {"kind": "loop", "batch_size": 4, "epochs": 60, "learning_rate": 0.05},
    "rounds": {"count": 3, "min_clients": 3},
    "speed": {"workers": 1},
}


def trigger(console: Console) -> None:
    """The form of a deployment: FedProx chosen, a wrong value refused, the run sent off."""
    page = console.page
    console.open(f"/deployments/deployment/{console.deployment('demo')}", "Schedules")
    page.click("Run")
    console.take("operator-deployment", bottom=470)
    page.click("Custom run")
    page.read("strategy (Optional)")
    time.sleep(3)
    console.take("operator-form")
    page.click("FedProx")
    page.show("strategy (Optional)")
    console.take("operator-form-fedprox", bottom=640)
    page.write(field("Mu"), "-1")
    page.click("Submit")
    page.read("Failure reason")
    time.sleep(1)  # it slides in
    console.take("operator-form-refused", top=560, bottom=HEIGHT)
    page.write(field("seed"), str(new_seed()))
    page.write(field("Mu"), "0.1")
    time.sleep(2)
    page.click("Submit")
    page.wait("!document.querySelector('.schema-input')")


def queue(console: Console) -> None:
    """A second run waits for the first."""
    first = console.start("demo", **SLOW, seed=11)
    console.until(first, "Running")
    second = console.start("heart-disease")
    console.until(second, "Late")
    console.open("/runs", "Late")
    console.take("operator-queue")
    for run in (second, first):
        console.ask(
            f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        )
    console.until(first, "Cancelled")
    console.until(second, "Cancelled")


def watch(console: Console) -> None:
    """The run that the form has sent off: timeline, artifacts, plan, a round, the audit."""
    run = console.newest("demo")
    console.until(run, "Completed")
    console.run_page(run, "Completed", "Logs")
    console.take("prefect-run")
    console.page.click("Artifacts")
    console.page.show("Artifacts")
    time.sleep(2)
    console.take("operator-artifacts", left=252)
    console.artifact(run, "plan", "config digest")
    console.take("operator-plan")
    console.artifact(run, "round-010", "Round 10")
    console.take("operator-round", bottom=620)
    console.artifact(run, "data-audit", "audit")
    console.take("operator-audit", bottom=500)


def pause(console: Console) -> None:
    """Pause, Resume, Cancel and Retry of one run."""
    page = console.page
    run = console.start("demo", **SLOW, seed=new_seed())
    console.until_trained(run, 2)
    console.run_page(run, "Running", "Logs")
    console.take("operator-watch", bottom=560)
    dialog(console, "Suspend", "operator-pause")
    console.until(run, "Suspended", "Paused")
    until_quiet(console.stack, run)
    console.run_page(run, "Suspended", "Details")
    see_message(page)
    console.take("operator-paused", bottom=HEIGHT)
    dialog(console, "Resume", "operator-resume")
    console.until_trained(run, 4)
    console.run_page(run, "Running", "Logs")
    dialog(console, "Cancel", "operator-cancel")
    console.until(run, "Cancelled")
    until_quiet(console.stack, run)
    console.run_page(run, "Cancelled", "Logs")
    console.take("operator-cancelled", bottom=500)
    dialog(console, "Retry", "operator-retry")
    console.until(run, "Completed")
    console.run_page(run, "Completed", "Logs")
    console.take("operator-retried", bottom=500)


def approve(console: Console) -> None:
    """A run stops for approval because its audit has warnings."""
    page = console.page
    run = console.start(
        "pneumoniamnist",
        seed=new_seed(),
        approvals={"audit": "warnings"},
        rounds={"count": 2, "min_clients": 3},
    )
    console.until(run, "Suspended")
    until_quiet(console.stack, run)
    console.run_page(run, "Suspended", "Details")
    see_message(page)
    console.take("operator-waits", bottom=HEIGHT)
    page.click("Resume")
    page.read("Decision")
    time.sleep(2)
    page.choose(field("Decision"), "approve")
    page.write(field("Who"), "A. Smith, imaging")
    page.write(field("Why"), "Known; dropped from training.")
    console.take("operator-approve", bottom=HEIGHT)
    page.click("Submit")
    console.until(run, "Completed")
    console.artifact(run, "decisions", "Decisions")
    console.take("operator-decisions", bottom=360)


def refuse(console: Console) -> None:
    """A failed audit, its report and its alert."""
    run = console.start("pneumoniamnist", audit={"remedy": "stop"})
    console.until(run, "Failed")
    console.run_page(run, "Failed", "Details")
    see_message(console.page)
    console.take("operator-refused", bottom=HEIGHT)
    console.artifact(run, "data-audit", "both train and val")
    console.take("operator-refused-audit")
    console.open("/automations", "Fedloom: run crashed")
    console.take("operator-automations", bottom=860)


def schedule(console: Console) -> None:
    """The nightly schedule, switched on and off again."""
    page = console.page
    console.open(f"/deployments/deployment/{console.deployment('pneumoniamnist')}", "nightly")
    switch = "document.querySelector('.p-toggle__control, [role=switch]')"
    path = f"/deployments/{console.deployment('pneumoniamnist')}"
    if not console.ask(path)["schedules"][0]["active"]:
        page.press(switch)
    page.click("Upcoming")
    page.read("Scheduled for", 120)  # the server looks at schedules once a minute
    time.sleep(2)
    console.take("operator-schedule", bottom=560)
    page.press(switch)
    time.sleep(2)


def sites(console: Console) -> None:
    """A run over the four hospitals, one of which asks for more of itself on the way."""
    policy = console.stack.home / "federation" / "va" / "policy.yaml"
    before = policy.read_text()
    rounds = {"count": 8, "min_clients": 3}
    run = console.start("heart-disease-sites", seed=new_seed(), rounds=rounds)
    try:
        console.until_trained(run, 5, "aggregate")
        policy.write_text(before.replace("minimum_examples: 10\n", "minimum_examples: 100\n"))
        console.until(run, "Completed")
    finally:
        policy.write_text(before)
    console.run_page(run, "Completed", "Subflow Runs")
    console.take("sites-run")
    console.artifact(run, "round-008", "Round 8")
    console.take("sites-round", bottom=460)
    console.artifact(run, "data-audit", "the data of 4 sites")
    console.take("sites-audit", bottom=540)
    console.run_page(console.below(run)[0], "Completed", "Task Runs")
    console.take("sites-session")


def model(console: Console) -> None:
    """The newest model version in MLflow; heart-disease with a champion before it shows most."""
    os.environ.update(access(console.stack))
    from mlflow import MlflowClient

    found = MlflowClient(console.stack.mlflow_url).search_model_versions(
        order_by=["creation_timestamp DESC"], max_results=1
    )[0]
    url = f"{console.stack.mlflow_url}/#/models/{found.name}/versions/{found.version}"
    with Browser(1900, 1500) as page:
        page.go(url, "document.body")
        page.read("Limits")
        time.sleep(5)
        Console(console.stack, page).take("mlflow-version", right=1430, bottom=1500)


SCENES: dict[str, Callable[[Console], None]] = {
    scene.__name__: scene
    for scene in (trigger, watch, queue, pause, approve, refuse, schedule, sites, model)
}


def main() -> None:
    """The scenes that were named, or all."""
    names = sys.argv[1:] or list(SCENES)
    if unknown := sorted(set(names) - set(SCENES)):
        sys.exit(f"{unknown} are no scenes; there are {list(SCENES)}.")
    stack = running_stack(stack_home()) or sys.exit("No stack is up: fedloom stack up")
    for name in names:
        with Browser(WIDTH, HEIGHT) as page:
            SCENES[name](Console(stack, page))


if __name__ == "__main__":
    main()
