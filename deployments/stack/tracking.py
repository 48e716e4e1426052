"""MLflow's server behind the stack's password: HTTP Basic, which its client and browsers speak.

MLflow's own `basic-auth` app keeps users and permissions in a further database and needs a further
package; one password for the whole stack needs neither. Started by
``mlflow server --app-name fedloom``.
"""

from __future__ import annotations

import base64
import hmac
import os
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.stack.stack import AUTH_VARIABLE

# Says "OK" and no more.
OPEN_PATHS = {"/health"}


class PasswordRequired:
    """Answers requests that carry the password; tells others to give one."""

    def __init__(self, app: ASGIApp, auth_string: str) -> None:
        self.app = app
        self.token = base64.b64encode(auth_string.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [
                (b"content-type", b"text/plain"),
                (b"www-authenticate", b'Basic realm="MLflow of this stack", charset="UTF-8"'),
            ]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"This server needs a password.\n"})

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"basic" and hmac.compare_digest(token.strip(), self.token)


def create_app() -> Any:
    """MLflow's app with the password of the environment; uvicorn's factory.

    Raises:
      RuntimeError: there is no password; the server must not start open.
    """
    from mlflow.server.fastapi_app import app

    auth_string = os.environ.get(AUTH_VARIABLE)
    if not auth_string:
        raise RuntimeError(
            f"{AUTH_VARIABLE} is not set; start MLflow by `fedloom stack up --auth`."
        )
    return PasswordRequired(app, auth_string)
