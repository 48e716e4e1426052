"""A headless Chromium, driven by the Chrome DevTools protocol, for pictures and trials of pages.

Needs Chromium (Debian: apt install chromium); the websocket library comes with Prefect.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-port=0"),
)
TALLEST = 16_000
# The innermost visible element with a text, label or placeholder; dialogs and menus lie on top.
FIND = r"""
(text, nth, exact) => {
  const words = value => (value || "").replace(/\s+/g, " ").trim();
  const fits = value => exact ? words(value) === text : words(value).includes(text);
  const isSeen = element => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && getComputedStyle(element).visibility !== "hidden";
  };
  const tops = [...document.querySelectorAll("[role=dialog],.p-modal,.p-pop-over-content")]
    .filter(isSeen);
  const within = tops.length ? tops[tops.length - 1] : document.body;
  const found = [...within.querySelectorAll("*")].filter(element => isSeen(element) && (
    fits(element.textContent) || fits(element.getAttribute("aria-label"))
    || fits(element.getAttribute("placeholder"))));
  return found.filter(one => !found.some(other => other !== one && one.contains(other)))[nth];
}
"""


class Browser:
    """One page of one browser, which ends with the ``with`` block."""

    def __init__(self, width: int = 1400, height: int = 1000) -> None:
        program = shutil.which("chromium") or sys.exit("Chromium is not installed.")
        self.width, self.height, self._calls = width, height, 0
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, *QUIET, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = _eventually(self._port)
        self._socket = connect(_eventually(lambda: _page(port)), max_size=None, proxy=None)
        self._size(height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait()
        self._profile.cleanup()

    def go(self, url: str, until: str) -> None:
        """Open a page and wait until a JavaScript expression is true."""
        self.call("Page.navigate", url="about:blank")  # what was there must not seem to be it
        self.wait("location.href === 'about:blank'")
        self.call("Page.navigate", url=url)
        self.wait(until)

    def wait(self, until: str, seconds: float = 40.0) -> None:
        """Wait until a JavaScript expression is true."""
        _eventually(lambda: self.js(f"Boolean({until})"), seconds, until)

    def js(self, expression: str) -> Any:
        """The JSON value of an expression in the page; errors there are None here."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return answer["result"].get("value")

    def write(self, element: str, text: str) -> None:
        """Type into what a JavaScript expression finds, instead of what is there."""
        self.js(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); e.focus(); e.select() }})({element})"
        )
        self.call("Input.insertText", text=text)

    def read(self, text: str, seconds: float = 60.0) -> None:
        """Wait until a text can be read on the page."""
        self.wait(f"document.body && document.body.innerText.includes({json.dumps(text)})", seconds)

    def click(self, text: str, nth: int = 0, *, exact: bool = True) -> None:
        """With the mouse, on what has a text; waits for it."""
        self.press(element(text, nth, exact))

    def press(self, element: str) -> None:
        """With the mouse, on what a JavaScript expression finds; waits for it."""
        self.wait(element)
        x, y = self.js(
            f"(e => {{ e.scrollIntoView({{block: 'nearest'}});"
            " const box = e.getBoundingClientRect();"
            f" return [box.x + box.width / 2, box.y + box.height / 2]; }})({element})"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            button = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", **button)
        time.sleep(0.7)

    def choose(self, element: str, value: str) -> None:
        """One of the options of a select; its list is the system's own and takes no mouse here."""
        self.js(
            f"(e => {{ e.value = {json.dumps(value)};"
            f" e.dispatchEvent(new Event('change', {{bubbles: true}})) }})({element})"
        )

    def show(self, text: str, nth: int = 0, *, exact: bool = True) -> None:
        """Scroll what has a text to the top of the window; waits for it."""
        self.wait(element(text, nth, exact))
        self.js(f"{element(text, nth, exact)}.scrollIntoView({{block: 'start'}})")
        time.sleep(0.7)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """What is seen as PNG, or the whole page from top to bottom."""
        if whole:
            tall = "Math.max(...[...document.querySelectorAll('*')].map(e => e.scrollHeight))"
            self._size(min(TALLEST, int(self.js(tall)) + 50))
            time.sleep(1)
        path.write_bytes(self.seen())
        if whole:
            self._size(self.height)

    def seen(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def call(self, method: str, **params: Any) -> Any:
        """A command of the protocol; returns its result."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._calls:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _size(self, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": self.width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def _port(self) -> str:
        try:
            return (Path(self._profile.name) / "DevToolsActivePort").read_text().split()[0]
        except (FileNotFoundError, IndexError):
            return ""


def element(text: str, nth: int = 0, exact: bool = True) -> str:
    """The JavaScript expression that finds what has a text."""
    return f"({FIND})({json.dumps(text)}, {nth}, {json.dumps(exact)})"


def _page(port: str) -> str:
    found = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
    return next((one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"), "")


def _eventually(look: Any, seconds: float = 40.0, what: str = "the browser") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds:.0f} s: {what}")
