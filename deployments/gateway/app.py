"""The gateway as an ASGI application; it listens on loopback, behind a proxy that speaks TLS."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from deployments.gateway.door import Door
from deployments.gateway.limits import Limits, read_limits
from deployments.gateway.rules import ALLOWED, Call, Rule
from deployments.gateway.streams import stream_events
from deployments.gateway.tokens import Tokens, tokens_file
from deployments.gateway.upstream import Refused, Upstream
from deployments.stack.stack import stack_home

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def make_app(tokens: Tokens, limits: Limits, client: httpx.AsyncClient) -> Starlette:
    """The gateway; ``app.state.door`` counts what it refuses.

    Args:
      tokens: of the sites.
      limits: of each site.
      client: of Prefect's API, with the gateway's own credentials.
    """
    door, api = Door(tokens, limits), Upstream(client)

    def answering(rule: Rule | None) -> Any:
        async def endpoint(request: Request) -> Response:
            return await _answer(door, api, request, rule)

        return endpoint

    async def streaming(socket: WebSocket) -> None:
        await stream_events(door, api, socket)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield
        door.tell_all()

    rules = [Route(f"/api{path}", answering(rule), methods=[how]) for how, path, rule in ALLOWED]
    for route in rules:
        route.methods = (route.methods or set()) - {"HEAD"}  # which comes with every GET
    app = Starlette(
        routes=[
            Route("/alive", _alive, methods=["GET"]),
            *rules,
            WebSocketRoute("/api/events/in", streaming),
            Route("/{rest:path}", answering(None), methods=METHODS),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.door = door
    return app


def create_app() -> Starlette:
    """The gateway of a stack, as its environment says; uvicorn's factory.

    Raises:
      StackError: limits that cannot be, or tokens that cannot be read.
    """
    home = stack_home()
    tokens, limits = Tokens(tokens_file(home)), read_limits(home)
    tokens.hashes()
    user, _, word = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    client = httpx.AsyncClient(
        base_url=os.environ["PREFECT_API_URL"],
        auth=httpx.BasicAuth(user, word) if word else None,
        timeout=limits.seconds,
        # Prefect's server closes a connection that was idle for 5 s; a request that is on its way
        # just then would be lost.
        limits=httpx.Limits(max_connections=100, keepalive_expiry=2.0),
        trust_env=False,  # never through a proxy
    )
    return make_app(tokens, limits, client)


async def _alive(request: Request) -> Response:
    return Response("OK", media_type="text/plain")


async def _answer(door: Door, api: Upstream, request: Request, rule: Rule | None) -> Response:
    site = "nobody"
    try:
        site = door.caller(request)
        if door.take(site):
            raise Refused(429, "too many requests")
        if rule is None:
            raise Refused(403, "not on the list of what a site may ask")
        body = await door.body(request)
        answer = await rule(Call(site, dict(request.path_params), body, api))
    except Refused as error:
        door.count(site, error)
        headers = {"Retry-After": "1"} if error.status in (429, 503) else {}
        if error.status == 408 or door.is_endless(request):
            headers["Connection"] = "close"  # the rest of the body would be read, and thrown away
        return JSONResponse({"detail": error.reason}, error.status, headers=headers)
    if answer.status == 204:
        return Response(status_code=204)
    return JSONResponse(answer.words, answer.status)
