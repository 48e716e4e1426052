"""Requests that SQLite refused are asked again, inside the server.

A transaction of Prefect's that has read and then writes is refused by SQLite when another one wrote
in between, however long it would have waited; Prefect answers 503 'Service Unavailable'. Its Python
client asks again after seconds, its pages do not: the operator's run is not made. The transaction
was rolled back, so the same request is simply made again.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_TRIES = 10
PAUSE_SECONDS = 0.1
MOST_BYTES = 4 * 2**20
REFUSED = b'{"exception_message":"Service Unavailable"}'
CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


class AsksAgain:
    """Keeps a changing request to the API and makes it up to ten times, refused ones in turn."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGES:
            await self.app(scope, receive, send)
            return
        opening = await _body(receive)
        is_whole = not opening[-1].get("more_body", False)
        if await self._make(scope, receive, send, opening, is_last=not is_whole):
            return
        async with self._turn:  # else they refuse each other again
            for left in range(MOST_TRIES - 2, -1, -1):
                await asyncio.sleep(PAUSE_SECONDS)
                if await self._make(scope, receive, send, opening, is_last=left == 0):
                    return

    async def _make(
        self, scope: Scope, receive: Receive, send: Send, opening: list[Message], *, is_last: bool
    ) -> bool:
        """Make the request once; False when the database refused it, which the last try tells."""
        answer = _Answer(send, passes=is_last)
        try:
            await self.app(dict(scope), _replayed(opening, receive), answer)
        except Exception:
            # Prefect's application answers and then raises all the same.
            if answer.is_sent or not answer.is_refusal:
                raise
        return answer.is_sent


class _Answer:
    """Passes an answer on, except for a refusal by the database."""

    def __init__(self, send: Send, *, passes: bool) -> None:
        self._send, self.is_sent = send, passes
        self._held: list[Message] = []

    @property
    def is_refusal(self) -> bool:
        """Whether what was held back is the database's refusal, whole."""
        body = b"".join(one.get("body", b"") for one in self._held)
        return bool(self._held) and self._held[0]["status"] == 503 and body == REFUSED

    async def __call__(self, message: Message) -> None:
        if self.is_sent:
            await self._send(message)
            return
        self._held.append(message)
        if message["type"] == "http.response.start" and message["status"] == 503:
            return
        if self.is_refusal:
            return
        self.is_sent = True
        for one in self._held:
            await self._send(one)


async def _body(receive: Receive) -> list[Message]:
    """The request's body as it came, or its beginning when it is too large to be kept."""
    messages, size = [], 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if not message.get("more_body", False) or size > MOST_BYTES:
            return messages


def _replayed(opening: list[Message], receive: Receive) -> Receive:
    """What was received, once more, and then what comes."""
    left = list(opening)

    async def again() -> Message:
        return left.pop(0) if left else await receive()

    return again
