"""Whether the services of a stack answer."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from deployments.stack.credentials import authorization
from deployments.stack.stack import POOL, POSTGRES, Stack

PATIENCE_SECONDS = 5.0


def prefect_answers(stack: Stack) -> bool:
    """Prefect's API is ready."""
    return _get(f"{stack.prefect_api_url}/health").strip() == "true"


def mlflow_answers(stack: Stack) -> bool:
    """MLflow's API is ready."""
    return _get(f"{stack.mlflow_url}/health").strip() == "OK"


def worker_answers(stack: Stack) -> bool:
    """A worker of the pool has sent a heartbeat of late."""
    try:
        answer = httpx.post(
            f"{stack.prefect_api_url}/work_pools/{POOL}/workers/filter",
            json={},
            headers=authorization(stack),
            timeout=PATIENCE_SECONDS,
            trust_env=False,  # never through a proxy
        )
        return answer.is_success and any(w["status"] == "ONLINE" for w in answer.json())
    except httpx.HTTPError:
        return False


def gateway_answers(stack: Stack) -> bool:
    """The gateway of sites lets callers in, or tells them that it does not."""
    return _get(f"{stack.gateway_url.removesuffix('/api')}/alive").strip() == "OK"


def answers(stack: Stack) -> dict[str, Callable[[Stack], bool]]:
    """What to ask of each service, in the order in which they start."""
    from deployments.stack.postgres import postgres_answers

    databases = {"postgres": postgres_answers} if stack.database == POSTGRES else {}
    servers = {"prefect": prefect_answers, "mlflow": mlflow_answers, "worker": worker_answers}
    gateway = {"gateway": gateway_answers} if stack.gateway_port else {}
    return {**databases, **servers, **gateway}


def _get(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=PATIENCE_SECONDS, trust_env=False)
        return answer.text if answer.is_success else ""
    except httpx.HTTPError:
        return ""
