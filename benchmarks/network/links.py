"""Each site's network: a namespace of its own with one link to the host, and only the way out.

Addresses are of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks of networks.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from benchmarks.network.wire import slow_wire

PROXY, API_PORT, STORE_PORT = "198.18.0.1", 8443, 9443
LISTENING = 5999
PROBE_SECONDS = 2.0
FIREWALL = f"""
table inet outward_only {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
    }}
    chain output {{
        type filter hook output priority 0; policy drop;
        oif lo accept
        ct state established,related accept
        ip daddr {PROXY} tcp dport {{ {API_PORT}, {STORE_PORT} }} accept
    }}
}}
"""

LISTENER = f"""
import socket
server = socket.create_server(("", {LISTENING}))
print("listens", flush=True)
while True:
    server.accept()[0].close()
"""
CALLER = """
import json, socket, sys
def reaches(host, port):
    try:
        socket.create_connection((host, port), float(sys.argv[2])).close()
    except OSError:
        return False
    return True
print(json.dumps([reaches(*one) for one in json.loads(sys.argv[1])]))
"""
LOCK = "\0fedloom-network"

Address = tuple[str, int]


@dataclass(frozen=True)
class Link:
    """A site's namespace, and its link to the host.

    Attributes:
      site: name of the site.
      number: from 1; names and addresses follow from it.
    """

    site: str
    number: int

    @property
    def namespace(self) -> str:
        """As `ip netns` knows it."""
        return f"fedloom-{self.site}"

    @property
    def end(self) -> str:
        """The host's end of the link."""
        return f"fedloom{self.number}"

    @property
    def inside(self) -> str:
        """The site's address."""
        return f"198.18.{self.number}.2"

    @property
    def outside(self) -> str:
        """The host's address on this link."""
        return f"198.18.{self.number}.1"

    def command(self, *words: str) -> list[str]:
        """A command inside the namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def cut(self) -> None:
        """Nothing passes any more; connections are not told."""
        ip("link", "set", self.end, "down")

    def mend(self) -> None:
        """Undoes ``cut``."""
        ip("link", "set", self.end, "up")

    def reaches(self, addresses: Sequence[Address]) -> list[bool]:
        """Whether a connection from inside to each address succeeds."""
        words = (sys.executable, "-c", CALLER, json.dumps(addresses), str(PROBE_SECONDS))
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=True)
        return [bool(one) for one in json.loads(done.stdout)]

    def is_reached(self) -> bool:
        """Whether the host can connect to what listens inside."""
        try:
            socket.create_connection((self.inside, LISTENING), PROBE_SECONDS).close()
        except OSError:
            return False
        return True


def missing() -> list[str]:
    """What this machine lacks for namespaces; empty when nothing."""
    lacks = [
        f"the program {name} (Debian: apt-get install {package})"
        for name, package in (("ip", "iproute2"), ("nft", "nftables"))
        if shutil.which(name) is None
    ]
    if lacks:
        return lacks
    try:
        ip("netns", "add", "fedloom-probe")
    except RuntimeError as error:
        return [f"the right to make network namespaces (root, CAP_SYS_ADMIN): {error}"]
    ip("netns", "del", "fedloom-probe")
    return []


@contextmanager
def linked(
    sites: Sequence[str], slow: str, delay: float, rate: float
) -> Iterator[tuple[list[Link], dict[str, bool]]]:
    """A namespace for each site, until the block ends, with what was found on trying it.

    Args:
      slow: the site whose link is slow.
      delay: seconds that a packet takes on it, each way.
      rate: its bytes a second, each way.

    Yields:
      the links, and each attempt at a connection with whether it succeeded.

    Raises:
      RuntimeError: another trial runs on this machine, or `ip` refuses something.
    """
    links = [Link(site, number) for number, site in enumerate(sites, 1)]
    listeners: list[subprocess.Popen[str]] = []
    with _only_one():
        _remove(links)
        try:
            with slow_wire(delay, rate) as wire:
                ip("addr", "add", f"{PROXY}/32", "dev", "lo")
                for link in links:
                    _connect(link, wire if link.site == slow else None)
                    words = link.command(sys.executable, "-c", LISTENER)
                    listeners.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
                for listener in listeners:
                    assert listener.stdout is not None
                    listener.stdout.readline()
                yield links, _tried(links)
        finally:
            for listener in listeners:
                listener.terminate()
                listener.communicate()
            _remove(links)


@contextmanager
def _only_one() -> Iterator[None]:
    """Names and addresses are the same in every trial; the lock ends with its process."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(LOCK)
        except OSError:
            raise RuntimeError(
                "Another network trial runs on this machine; wait for its end."
            ) from None
        yield


def ip(*words: str) -> None:
    """Runs `ip`.

    Raises:
      RuntimeError: it failed; with its words.
    """
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _connect(link: Link, wire: tuple[str, str] | None) -> None:
    name = link.namespace
    ip("netns", "add", name)
    if wire:
        ip("link", "set", wire[0], "name", link.end)
        ip("link", "set", wire[1], "netns", name, "name", "outward")
    else:
        ip("link", "add", link.end, "type", "veth", "peer", "name", "outward", "netns", name)
    ip("addr", "add", f"{link.outside}/30", "dev", link.end)
    ip("link", "set", link.end, "up")
    ip("-n", name, "addr", "add", f"{link.inside}/30", "dev", "outward")
    for device in ("lo", "outward"):
        ip("-n", name, "link", "set", device, "up")
    ip("-n", name, "route", "add", f"{PROXY}/32", "via", link.outside)


def _tried(links: Sequence[Link]) -> dict[str, bool]:
    """Connections into each site before and after its firewall; the first shows that the attempt
    would be seen to succeed."""
    found = {f"host to {one.site}, no firewall yet": one.is_reached() for one in links}
    for link in links:
        subprocess.run(link.command("nft", "-f", "-"), input=FIREWALL, text=True, check=True)
    found |= {f"host to {one.site}": one.is_reached() for one in links}
    for link, other in zip(links, [*links[1:], links[0]], strict=True):
        way = [(other.inside, LISTENING), (link.outside, 22), ("203.0.113.1", 443)]
        names = (other.site, "host, another port", "another address")
        tried = zip(names, link.reaches(way), strict=True)
        found |= {f"{link.site} to {name}": reached for name, reached in tried}
    return found


def _remove(links: Sequence[Link]) -> None:
    """Also what a trial that was killed has left."""
    for link in links:
        with suppress(RuntimeError):
            ip("netns", "del", link.namespace)
        with suppress(RuntimeError):
            ip("link", "del", link.end)
    with suppress(RuntimeError):
        ip("addr", "del", f"{PROXY}/32", "dev", "lo")
