"""What an operator does to a run (start, read its state, Retry), and what a reviewer sees of it."""

from __future__ import annotations

import os
import time
from typing import Any

import httpx

from deployments.stack.credentials import authorization
from deployments.stack.stack import Stack, environment

PATIENCE_SECONDS = 120.0


class Control:
    """Prefect's and MLflow's APIs of a stack; both may be down for a while."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.headers = authorization(stack)

    def start(self, deployment: str, parameters: dict[str, Any]) -> str:
        """A run of a deployment; returns its id."""
        found = self._prefect("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "job_variables": {"env": _data()}}
        return str(self._prefect("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, run_id: str) -> str:
        """Its state's name; empty while the server does not answer."""
        try:
            answer = httpx.get(
                f"{self.stack.prefect_api_url}/flow_runs/{run_id}",
                timeout=10,
                headers=self.headers,
                trust_env=False,
            )
            return str((answer.json().get("state") or {}).get("name", ""))
        except (httpx.HTTPError, ValueError):
            return ""

    def retry(self, run_id: str) -> None:
        """What the Retry button does."""
        self.set_state(run_id, {"type": "SCHEDULED", "name": "AwaitingRetry"}, force=True)

    def resume(self, run_id: str) -> None:
        """What the Resume button does."""
        self._prefect("POST", f"/flow_runs/{run_id}/resume", {})

    def set_state(self, run_id: str, state: dict[str, Any], *, force: bool = False) -> None:
        """What the other buttons do."""
        self._prefect("POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": force})

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Its task runs."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
        return list(self._prefect("POST", "/task_runs/filter", body))

    def sessions(self, run_id: str) -> dict[str, str]:
        """Site -> state of its session in a run over sites."""
        body = {"flow_runs": {"tags": {"all_": [f"flow-run:{run_id}"]}}}
        found = self._prefect("POST", "/flow_runs/filter", body)
        return {one["work_queue_name"]: one["state"]["name"] for one in found}

    def tasks_at_sites(self, run_id: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The task runs of the sessions of a run over sites; flow run -> site."""
        of_run = {"tags": {"all_": [f"flow-run:{run_id}"]}}
        found = self._prefect("POST", "/flow_runs/filter", {"flow_runs": of_run})
        tasks: list[dict[str, Any]] = []
        while True:
            body = {"flow_runs": of_run, "limit": 200, "offset": len(tasks), "sort": "ID_DESC"}
            if not (page := self._prefect("POST", "/task_runs/filter", body)):
                return tasks, {one["id"]: one["work_queue_name"] for one in found}
            tasks += page

    def outcome(self, run_id: str) -> tuple[str, int]:
        """Final digest of the run's model version, and how many versions it left."""
        # Not where this stack's events are: the next stack has another log.
        os.environ.update(
            {k: v for k, v in environment(self.stack).items() if not k.startswith("FEDLOOM_")}
        )
        from mlflow import MlflowClient

        client = MlflowClient(self.stack.mlflow_url)
        versions = client.search_model_versions(f"tags.`fedloom.run_id` = '{run_id}'")
        digest = versions[0].tags.get("fedloom.model_digest", "") if versions else ""
        return digest, len(versions)

    def _prefect(self, method: str, path: str, body: Any = None) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = httpx.request(
                    method,
                    f"{self.stack.prefect_api_url}{path}",
                    json=body,
                    timeout=30,
                    headers=self.headers,
                    trust_env=False,
                )
                answer.raise_for_status()
                return answer.json()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def _data() -> dict[str, str]:
    return {key: os.environ[key] for key in ("FEDLOOM_DATA", "HF_HUB_OFFLINE") if key in os.environ}
