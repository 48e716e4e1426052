"""The notification block that alerts go to until somebody puts mail or Slack in its place.

It works offline and runs in Prefect's server, which imports this module
(``deployments/stack/console.py``) and so knows the class.
"""

from __future__ import annotations

import asyncio
import logging

from prefect.blocks.abstract import NotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate

from deployments.alerts import append_alert
from deployments.stack.stack import stack_home

NAME = "fedloom-alerts"
ARTIFACT = "alerts"


class FedloomAlerts(NotificationBlock):
    """Keeps alerts in this stack's folder, and shows them in Prefect under Artifacts as `alerts`.

    `fedloom alerts` lists them; `fedloom stack status` counts those of the last day.
    """

    _block_type_name = "Fedloom alerts"
    _block_type_slug = "fedloom-alerts"

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Keep the alert; failing to show it does not lose it."""
        alert = await asyncio.to_thread(append_alert, stack_home(), subject or "alert", body)
        if alert is None:
            return
        try:
            async with get_client() as client:
                await client.create_artifact(
                    ArtifactCreate(
                        key=ARTIFACT,
                        type="markdown",
                        description=alert.subject,
                        data=f"### {alert.subject}\n\n{alert.at}\n\n{alert.body}\n",
                    )
                )
        except Exception:
            logging.getLogger(__name__).warning("an alert is not shown in Prefect", exc_info=True)
