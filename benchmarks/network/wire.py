"""A slow wire: two TUN devices; what goes into one comes out of the other later.

What `tc netem` does, on kernels without it. https://docs.kernel.org/networking/tuntap.html
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
DEVICE = "/dev/net/tun"
ENDS = ("fedloomwire0", "fedloomwire1")
MOST_BYTES = 65536
MOST_WAITING = 1000  # packets; further ones are lost, as on a real link


@contextmanager
def slow_wire(delay: float, rate: float) -> Iterator[tuple[str, str]]:
    """The names of its ends, until the block ends; either may be moved to another namespace.

    Args:
      delay: seconds that a packet takes, each way.
      rate: bytes a second, each way.
    """
    one, other = (_device(name) for name in ENDS)
    stop, told = os.pipe()
    threads = [
        threading.Thread(target=_carry, args=(*way, delay, rate, stop), daemon=True)
        for way in ((one, other), (other, one))
    ]
    for thread in threads:
        thread.start()
    try:
        yield ENDS
    finally:
        os.close(told)
        for thread in threads:
            thread.join()
        for descriptor in (one, other, stop):
            os.close(descriptor)


def _device(name: str) -> int:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def _carry(source: int, target: int, delay: float, rate: float, stop: int) -> None:
    waiting: deque[tuple[float, bytes]] = deque()
    free = 0.0  # when the wire has taken all that was put on it
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([source, stop], [], [], pause)
        if stop in ready:
            return
        if source in ready:
            with suppress(OSError):  # the device is down
                packet = os.read(source, MOST_BYTES)
                free = max(free, time.monotonic()) + len(packet) / rate
                if len(waiting) < MOST_WAITING:
                    waiting.append((free + delay, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            with suppress(OSError):
                os.write(target, waiting.popleft()[1])
