"""What stands between one site and the object store: it delays, repeats, copies and hides objects.

Nothing of it is allowed by S3's own promises; a cache, a queue or a hostile operator does it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HELD_SECONDS = (0.3, 1.5)
EVERY = 3  # one in so many objects is held back, one in so many announcements hidden at first
REPLACED = 4  # this answer of the site's finds the one before under its name: that of round 2
IS_ANSWER = b'"signature"'  # in an envelope; updates are sealed

Request = tuple[dict[str, str], bytes]
Reply = tuple[int, list[tuple[str, str]], bytes]


class Disorder(ThreadingHTTPServer):
    """Passes the requests of one site on to the store.

    Attributes:
      did: what was done to how many objects.
    """

    daemon_threads = True

    def __init__(self, store: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.did: Counter[str] = Counter()
        self._store, self._draw = store, random.Random(seed)
        self._looked: set[str] = set()
        self._answers: list[Request] = []

    def ask(self, method: str, path: str, request: Request) -> Reply:
        """The store's reply."""
        headers, body = request
        connection = HTTPConnection(self._store, timeout=30)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            connection.close()

    def put(self, path: str, request: Request) -> Reply:
        """Each object is left again later, and under another name; some come only then."""
        self._later(path, request)
        self._later(f"{path}-copy", request)
        self.did["repeated, and copied under another name"] += 1
        if IS_ANSWER in request[1]:
            self._answers.append(request)
            if len(self._answers) == REPLACED:
                self.ask("PUT", path, self._answers[-2])
                self.did["preceded by an old answer"] += 1
        if self.did["repeated, and copied under another name"] % EVERY == 0:
            self.did["held back"] += 1
            return 200, [("ETag", '"later"')], b""
        return self.ask("PUT", path, request)

    def get(self, path: str, request: Request) -> Reply:
        """Some announcements are not there at the first look: the next one is, before them."""
        reply = self.ask("GET", path, request)
        if reply[0] < 300 and "/to/" in path and path not in self._looked:
            self._looked.add(path)
            if len(self._looked) % EVERY == 0:
                self.did["hidden at first"] += 1
                return 404, [], b""
        return reply

    def _later(self, path: str, request: Request) -> None:
        def send() -> None:
            with suppress(OSError, HTTPException):
                self.ask("PUT", path, request)

        timer = threading.Timer(self._draw.uniform(*HELD_SECONDS), send)
        timer.daemon = True
        timer.start()


class _Handler(BaseHTTPRequestHandler):
    server: Disorder

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = (dict(self.headers), body)
        if self.command == "PUT":
            reply = self.server.put(self.path, request)
        elif self.command == "GET":
            reply = self.server.get(self.path, request)
        else:
            reply = self.server.ask(self.command, self.path, request)
        status, headers, content = reply
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _do

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def disorder(store: str, seed: int) -> Iterator[Disorder]:
    """Serves until the block ends.

    Args:
      store: HOST:PORT of the object store.
      seed: of how long what is held back.
    """
    with Disorder(store, seed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
