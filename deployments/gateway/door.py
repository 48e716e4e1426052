"""The gateway's door: who calls, how much each may ask, and what was refused."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from deployments.gateway.limits import Bucket, Limits
from deployments.gateway.tokens import Tokens
from deployments.gateway.upstream import Refused
from deployments.stack.stack import StackError

LOG = logging.getLogger("fedloom.gateway")
MINUTE = 60.0
# Who asks for what is not allowed is a broken client or none: it comes less often to the API.
DEARER = frozenset({403, 408, 413, 422})
PRICE = 10.0  # requests that such a one costs


@dataclass
class Door:
    """Lets sites in.

    Attributes:
      tokens: of the sites.
      limits: of each site.
      refused: (site, reason) -> how often.
    """

    tokens: Tokens
    limits: Limits
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _streams: Counter[str] = field(default_factory=Counter)
    _told: dict[object, float] = field(default_factory=dict)

    def caller(self, connection: HTTPConnection) -> str:
        """The site whose token a request carries.

        ``Bearer TOKEN``, as Prefect sends an API key, or ``Basic`` of ``NAME:TOKEN``, as it sends
        an auth string: of the two only the latter goes with a self-hosted server's stream of events
        (``prefect/events/clients.py``, 3.8.8).

        Raises:
          Refused: it carries none that is known.
        """
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        name = None
        if scheme.lower() == "basic":
            name, token = _name_and_token(token)
        elif scheme.lower() != "bearer":
            token = ""
        try:
            owner = self.tokens.owner(token) if token else None
        except StackError as error:
            self._tell("tokens", "%s", error)
            raise Refused(503, "the gateway cannot read its tokens") from error
        if owner is None or name not in (None, owner):
            raise Refused(401, "no token of a site")
        return owner

    def take(self, site: str) -> float:
        """Seconds until a site may ask again; 0 when it may now."""
        if site not in self._buckets:
            self._buckets[site] = Bucket(self.limits.per_second, self.limits.burst)
        return self._buckets[site].take()

    def count(self, site: str, error: Refused) -> None:
        """Remembers a refusal, which the log tells once a minute for each kind at most."""
        key = site, error.reason
        self.refused[key] += 1
        if error.status in DEARER and site in self._buckets:
            self._buckets[site].charge(PRICE - 1)
        self._tell(key, "%s: refused: %s (%d times)", *key, self.refused[key])

    def tell_all(self) -> None:
        """Has the log tell of all refusals, as the gateway ends."""
        for (site, reason), times in sorted(self.refused.items()):
            LOG.warning("%s: refused in all: %s (%d times)", site, reason, times)

    def is_endless(self, request: Request) -> bool:
        """Whether a body claims to be more than the bound, or does not say how much it is."""
        claimed = request.headers.get("content-length", "0")
        is_known = claimed.isdecimal() and "transfer-encoding" not in request.headers
        return not is_known or int(claimed) > self.limits.most_bytes

    async def body(self, request: Request) -> bytes:
        """A request's body, of which never more than the bound is read.

        Raises:
          Refused: it is more, or does not come.
        """
        most, body = self.limits.most_bytes, bytearray()
        if "transfer-encoding" not in request.headers and self.is_endless(request):
            raise Refused(413, f"more than {most} bytes")
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise Refused(413, f"more than {most} bytes")
        except TimeoutError:
            raise Refused(408, "the body did not come") from None
        except ClientDisconnect:
            raise Refused(408, "gone before the body came") from None
        return bytes(body)

    @contextmanager
    def stream(self, site: str) -> Iterator[None]:
        """One of the streams of events that a site may keep open.

        Raises:
          Refused: it has as many already.
        """
        if self._streams[site] >= self.limits.most_streams:
            raise Refused(429, "too many streams of events")
        self._streams[site] += 1
        try:
            yield
        finally:
            self._streams[site] -= 1

    def _tell(self, key: object, *words: object) -> None:
        now = time.monotonic()
        if now - self._told.get(key, -MINUTE) >= MINUTE:
            self._told[key] = now
            LOG.warning(*words)


def _name_and_token(word: str) -> tuple[str, str]:
    try:
        name, _, token = base64.b64decode(word.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return name, token
