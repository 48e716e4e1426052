"""Renews the pictures in docs/images from a running stack: its newest run and model version.

    fedloom run configs/train_federated/pneumoniamnist.yaml
    python docs/screenshots.py

Needs Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from mlflow import MlflowClient
from PIL import Image

from deployments.stack.lifecycle import running_stack
from deployments.stack.stack import stack_home

IMAGES = Path(__file__).parent / "images"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--virtual-time-budget=20000"),
)


def take(url: str, name: str, size: tuple[int, int], width: int) -> None:
    """A page as docs/images/NAME, its left ``width`` pixels only."""
    browser = shutil.which("chromium") or sys.exit("Chromium is not installed.")
    with tempfile.TemporaryDirectory() as profile:
        picture = Path(profile) / "page.png"
        window = f"--window-size={size[0]},{size[1]}"
        options = (*QUIET, f"--user-data-dir={profile}", window, f"--screenshot={picture}")
        subprocess.run([browser, *options, url], check=True, capture_output=True, timeout=120)
        page = Image.open(picture).crop((0, 0, width, size[1]))
        page.convert("P", palette=Image.Palette.ADAPTIVE).save(IMAGES / name, optimize=True)


def main() -> None:
    """The newest completed run and the newest model version."""
    stack = running_stack(stack_home()) or sys.exit("No stack is up: fedloom stack up")
    asked = {
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        "sort": "START_TIME_DESC",
        "limit": 1,
    }
    url = f"{stack.prefect_api_url}/flow_runs/filter"
    (run,) = httpx.post(url, json=asked, trust_env=False).raise_for_status().json()
    versions = MlflowClient(stack.mlflow_url).search_model_versions(
        order_by=["creation_timestamp DESC"], max_results=1
    )
    page = f"{stack.mlflow_url}/#/models/{versions[0].name}/versions/{versions[0].version}"
    take(stack.flow_run_url(run["id"]), "prefect-run.png", (1500, 1000), 1500)
    take(page, "mlflow-version.png", (1900, 1500), 1430)


if __name__ == "__main__":
    main()
