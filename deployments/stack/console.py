"""Prefect's server with a policy for browsers and one for runs: its pages may talk to this server
only, and paused runs stay resumable.

The pages of Prefect 3.8.8 call an analytics host even with analytics off, and its API answers any
web site by default. Both matter on a machine that also sees patients' data.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from prefect.server.api.server import create_app as create_prefect_app
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import deployments.alert_block  # noqa: F401 - so that the server knows the class
from deployments.stack.browser import CONTENT_SECURITY_POLICY
from deployments.stack.checked_schemas import remember_checked_schemas
from deployments.stack.policy import use_policies
from deployments.stack.sqlite_turns import use_turns_on_sqlite
from deployments.stack.stack import PUBLIC_HOST

# The name by which the server's own services call it, without any network: automations' actions.
IN_MEMORY = "prefect-in-memory"


class BrowserPolicy:
    """Adds the policy to every HTTP response; websockets pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, send_with_policy if scope["type"] == "http" else send)


def create_app() -> FastAPI:
    """The server, API and pages; uvicorn's factory."""
    remember_checked_schemas()
    use_turns_on_sqlite()
    use_policies()
    app = create_prefect_app(final=True)
    app.add_middleware(BrowserPolicy)
    # A foreign name that resolves to loopback (DNS rebinding) is refused.
    # The name of a reverse proxy is not foreign.
    public = [name for name in [os.environ.get(PUBLIC_HOST)] if name]
    own = ["127.0.0.1", "localhost", IN_MEMORY]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*own, *public])
    return app
