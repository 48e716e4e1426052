"""Which device trains: the policy of the configuration against what the machine has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

DevicePolicy = Literal["cpu", "cuda", "mps", "auto"]


def choose_device(policy: DevicePolicy, available: Collection[str]) -> tuple[str, str | None]:
    """The device for ``policy`` among the ``available`` ones; a warning if it is not as asked.

    ``auto`` prefers cuda, then mps; the CPU is always there.

    >>> choose_device("auto", {"mps"})
    ('mps', None)
    >>> choose_device("cuda", set())[0]
    'cpu'
    """
    if policy == "auto":
        return next((device for device in ("cuda", "mps") if device in available), "cpu"), None
    if policy == "cpu" or policy in available:
        return policy, None
    found = ", ".join(sorted({"cpu", *available}))
    return "cpu", (
        f"device={policy!r} is not available here (found: {found}); training on the CPU. "
        "Set device: cpu to choose this."
    )


def available_devices() -> frozenset[str]:
    """Devices that torch finds on this machine: cpu and, where present, cuda and mps."""
    import torch

    found = {"cpu"}
    if torch.cuda.is_available():
        found.add("cuda")
    if torch.backends.mps.is_available():
        found.add("mps")
    return frozenset(found)
