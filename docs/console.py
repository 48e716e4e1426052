"""Prefect's console as an operator uses it: pages opened, runs started, dialogs answered."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import httpx
from browser import Browser, element
from PIL import Image

from deployments.stack.credentials import authorization
from deployments.stack.stack import Stack, data_environment

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 1040
USUAL = 900
PATIENCE_SECONDS = 300.0


class Console:
    """A stack's pages, and its API where a click would add nothing."""

    def __init__(self, stack: Stack, page: Browser) -> None:
        self.stack, self.page = stack, page
        self.api = httpx.Client(
            base_url=stack.prefect_api_url,
            headers=authorization(stack),
            trust_env=False,
            timeout=60,
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The API's answer; a busy server is asked again."""
        for _ in range(30):
            answer = self.api.get(path) if body is None else self.api.post(path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        return answer.raise_for_status().json()

    def deployment(self, name: str) -> str:
        """Its id."""
        return str(self.ask(f"/deployments/name/train-federated/{name}")["id"])

    def start(self, name: str, **sections: Any) -> str:
        """A run of a deployment; returns its id."""
        variables = {"env": data_environment()}
        body = {"parameters": sections, "job_variables": variables}
        return str(self.ask(f"/deployments/{self.deployment(name)}/create_flow_run", body)["id"])

    def newest(self, name: str) -> str:
        """The id of a deployment's newest run."""
        body = {"deployments": {"id": {"any_": [self.deployment(name)]}}, "limit": 1}
        return str(
            self.ask("/flow_runs/filter", {**body, "sort": "EXPECTED_START_TIME_DESC"})[0]["id"]
        )

    def until(self, run: str, *states: str) -> None:
        """Wait until the run is in one of these states."""
        begun = time.monotonic()
        while (now := self.ask(f"/flow_runs/{run}")["state"]["name"]) not in states:
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise TimeoutError(f"run {run} is {now}, not {' or '.join(states)}")
            time.sleep(1)

    def until_trained(self, run: str, tasks: int, kind: str = "client") -> None:
        """Wait until so many tasks of a kind are complete."""
        body = {
            "flow_runs": {"id": {"any_": [run]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "name": {"like_": kind}},
        }
        begun = time.monotonic()
        while self.ask("/task_runs/count", body) < tasks:
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise TimeoutError(f"run {run} has not done {tasks} {kind} tasks")
            time.sleep(0.5)

    def below(self, run: str) -> list[str]:
        """The ids of the sites' sessions of a run, by the sites' names."""
        tags = {"all_": [f"flow-run:{run}"]}
        found = self.ask("/flow_runs/filter", {"flow_runs": {"tags": tags}, "sort": "NAME_ASC"})
        return [one["id"] for one in found]

    def open(self, path: str, text: str, rest: float = 4.0) -> None:
        """A page of Prefect's console that shows a text; drawings get a moment."""
        self.page.go(f"{self.stack.prefect_ui_url}{path}", "document.body")
        self.page.read(text)
        time.sleep(rest)

    def run_page(self, run: str, text: str, tab: str = "") -> None:
        """A run's page, at a tab."""
        self.open(f"/runs/flow-run/{run}", text, 8.0)
        if tab:
            self.page.click(tab)
            time.sleep(2)

    def artifact(self, run: str, key: str, text: str) -> None:
        """The page of one artifact of a run."""
        body = {"flow_runs": {"id": {"any_": [run]}}, "artifacts": {"key": {"any_": [key]}}}
        found = self.ask("/artifacts/filter", {**body, "sort": "UPDATED_DESC", "limit": 1})
        self.open(f"/artifacts/artifact/{found[0]['id']}", text)

    def take(
        self, name: str, *, left: int = 0, top: int = 0, right: int = WIDTH, bottom: int = USUAL
    ) -> None:
        """What is seen, as docs/images/NAME.png; small, as 256 colours are enough here."""
        picture = Image.open(io.BytesIO(self.page.seen())).convert("RGB")
        picture = picture.crop((left, top, right, bottom))
        small = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(IMAGES / f"{name}.png", optimize=True)
        print(f"docs/images/{name}.png", flush=True)


def field(label: str) -> str:
    """The input of a field of a form; the JavaScript expression that finds it."""
    return (
        "[...document.querySelectorAll('.schema-form-property')].filter(one => one.querySelector("
        "'.schema-form-property__label').innerText.replace(' (Optional)', '') === "
        f"{json.dumps(label)}).pop().querySelector('input, textarea, select')"
    )


def dialog(console: Console, button: str, name: str) -> None:
    """A button of a run's page: its dialog as a picture, and the button pressed that does it."""
    console.page.click(button)
    time.sleep(2)  # it slides in
    console.take(name, bottom=720)
    console.page.press(
        "[...document.querySelectorAll('.p-modal__footer button')]"
        ".find(one => one.innerText.trim() !== 'Close')"
    )


def new_seed() -> int:
    """One whose clients have not been trained before: they would be done at once."""
    return int(time.time()) % 100_000


def see_message(page: Browser) -> None:
    """The whole message of a run's state, where the page has shortened it."""
    if page.js(f"Boolean({element('See More')})"):
        page.click("See More")


def until_quiet(stack: Stack, run: str) -> None:
    """Until no process works for the run."""
    from deployments.stack.recovery import processes_of_runs

    while run in processes_of_runs(stack.home):
        time.sleep(0.5)
