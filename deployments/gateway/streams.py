"""Streams of events: what a site's runs say of themselves, as Prefect's client sends it.

A stream speaks Prefect's protocol (``prefect/events/clients.py``, 3.8.8): the subprotocol
``prefect``, a first message of type ``auth``, then one event a message. The token travels in the
request's header. What is passed on goes one by one to the API's ``POST /events``. When that does
not answer, the stream is closed; the client comes again and sends anew what was not confirmed.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from deployments.gateway.door import Door
from deployments.gateway.events import NotItsOwn, own_event
from deployments.gateway.upstream import Refused, Upstream

# https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number
POLICY, TOO_BIG, AGAIN = 1008, 1009, 1013
FOREIGN = Refused(403, "an event that is not of its own runs")


async def stream_events(door: Door, api: Upstream, socket: WebSocket) -> None:
    """Passes a site's own events on until it goes; others are dropped and counted."""
    site = "nobody"
    try:
        site = door.caller(socket)
        if "prefect" not in socket.scope["subprotocols"]:
            raise Refused(403, "no stream of Prefect's protocol")
        with door.stream(site):
            await socket.accept(subprotocol="prefect")
            await _greet(socket)
            async for text in socket.iter_text():
                await _pass_on(text, door, api, socket, site)
    except Refused as error:
        door.count(site, error)
        is_ours = error.status in (404, 429) or error.status >= 500
        code = TOO_BIG if error.status == 413 else AGAIN if is_ours else POLICY
        # To a stream that was not accepted this is a 403.
        await socket.close(code, error.reason)
    except KeyError:  # a message of bytes
        await socket.close(POLICY)
    except WebSocketDisconnect:
        pass


async def _greet(socket: WebSocket) -> None:
    if _kind(await socket.receive_text()) != "auth":
        raise Refused(403, "no stream of Prefect's protocol")
    await socket.send_json({"type": "auth_success"})


async def _pass_on(text: str, door: Door, api: Upstream, socket: WebSocket, site: str) -> None:
    while wait := door.take(site):
        await asyncio.sleep(wait)  # and the site's further events wait with it
    if len(text.encode()) > door.limits.most_bytes:
        raise Refused(413, "an event of too many bytes")
    door.caller(socket)  # a token may have been revoked since
    try:
        event = await own_event(text, await api.estate(site), api)
    except NotItsOwn:
        door.count(site, FOREIGN)
        return
    await api.ask("POST", "/events", [event])


def _kind(text: str) -> Any:
    try:
        return json.loads(text[:1000]).get("type")
    except (ValueError, AttributeError, RecursionError):
        return None
