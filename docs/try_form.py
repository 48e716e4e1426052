"""A trial of the form that Prefect draws for a deployment: every choice clicked, a run sent off.

    fedloom deploy
    python docs/try_form.py demo heart-disease --pictures /tmp/pictures

Clicks each kind of each choice and looks whether it stays chosen; then asks for two rounds of
FedProx with another seed, first with a value out of bounds, then with a right one, and compares the
run's parameters with what was typed. Prints JSON; ends with 1 when something is not right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from browser import Browser

from deployments.stack.credentials import authorization
from deployments.stack.lifecycle import running_stack
from deployments.stack.stack import Stack, stack_home

CHOICES = ("data", "partition", "model", "training", "strategy", "participation", "start")
HELPERS = """
window.field = path => path.reduce((scope, name) => [...scope.querySelectorAll('.schema-form-property')]
  .find(one => one.querySelector('.schema-form-property__label').innerText
    .replace(' (Optional)', '').toLowerCase() === name.toLowerCase()), document.querySelector('.schema-input'));
window.buttons = path => [...field(path).querySelector('.p-button-group').querySelectorAll('button')];
window.labels = path => buttons(path).map(one => one.innerText.trim());
window.chosen = path => buttons(path).find(one => one.getAttribute('aria-selected') === 'true').innerText.trim();
window.pick = (path, label) => buttons(path).find(one => one.innerText.trim() === label).click();
window.input = path => field(path).querySelector('input, textarea');
window.submit = () => [...document.querySelectorAll('button')].find(one => one.innerText.trim() === 'Submit').click();
"""  # noqa: E501


def open_form(page: Browser, stack: Stack, deployment: dict[str, Any]) -> None:
    """The form, filled with the deployment's values."""
    url = f"{stack.prefect_ui_url}/deployments/deployment/{deployment['id']}/run"
    page.go(url, "document.querySelectorAll('.schema-form-property').length > 40")
    time.sleep(2)
    page.js(HELPERS)


def click_all(page: Browser) -> list[str]:
    """Every kind that does not stay chosen."""
    lost = []
    for section in CHOICES:
        path = json.dumps([section])
        for label in page.js(f"labels({path})") or []:
            page.js(f"pick({path}, {json.dumps(label)})")
            time.sleep(1.0)
            if (now := page.js(f"chosen({path})")) != label:
                lost.append(f"{section}: {label} became {now}")
    return lost


def send_run(page: Browser) -> str:
    """Two rounds of FedProx, seed 7; returns what the form said to a mu of -1."""
    page.write("input(['seed'])", "7")
    page.write("input(['rounds', 'count'])", "2")
    page.js("pick(['strategy'], 'FedProx')")
    page.wait("field(['strategy', 'mu'])")
    page.write("input(['strategy', 'mu'])", "-1")
    page.js("submit()")
    page.wait("document.body.innerText.includes('Failure reason')")
    refusal = page.js("document.body.innerText.match(/Error creating.*/)[0]")
    page.write("input(['strategy', 'mu'])", "0.3")
    time.sleep(1.5)
    page.js("submit()")
    page.wait("!location.pathname.endsWith('/run')")
    return refusal


def main() -> None:
    """All deployments that were named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    stack = running_stack(stack_home()) or sys.exit("No stack is up: fedloom stack up")
    api = httpx.Client(
        base_url=stack.prefect_api_url, headers=authorization(stack), trust_env=False, timeout=60
    )
    results = []
    for name in asked.names:
        deployment = api.get(f"/deployments/name/train-federated/{name}").raise_for_status().json()
        with Browser() as page:
            open_form(page, stack, deployment)
            if asked.pictures:
                page.picture(asked.pictures / f"{name}.png", whole=True)
            lost = click_all(page)
            open_form(page, stack, deployment)
            refusal = send_run(page)
        asks = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        run = api.post("/flow_runs/filter", json={**asks, "limit": 1}).json()[0]
        sent = run["parameters"]
        wanted = {
            **deployment["parameters"],
            "seed": 7,
            "rounds": {**deployment["parameters"]["rounds"], "count": 2},
            "strategy": {"kind": "fedprox", "server_learning_rate": 1, "mu": 0.3},
        }
        differs = {key: sent.get(key) for key in wanted if sent.get(key) != wanted[key]}
        results.append(
            {
                "deployment": name,
                "lost choices": lost,
                "refusal": refusal,
                "run": run["id"],
                "differs": differs,
            }
        )
    print(json.dumps(results, indent=2))
    sys.exit(any(one["lost choices"] or one["differs"] for one in results))


if __name__ == "__main__":
    main()
