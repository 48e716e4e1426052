"""Sizes and times as people read them."""

from __future__ import annotations

from collections.abc import Iterable


def size(num_bytes: float) -> str:
    """Bytes in the unit that fits.

    >>> size(512), size(1_234_567), size(2.5e12)
    ('512 B', '1.2 MB', '2.5 TB')
    """
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        num_bytes /= 1000
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds in the two units that fit.

    >>> duration(4.2), duration(75), duration(7300), duration(200_000)
    ('4 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    for large, small, count, rest in (("d", "h", 86400, 3600), ("h", "min", 3600, 60)):
        if whole >= count:
            return f"{whole // count} {large} {whole % count // rest} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def some(names: Iterable[str], most: int = 8) -> str:
    """Names in order, the first of them where there are many.

    >>> some({"va", "hungary"}), some(map(str, range(12)), most=2)
    ('hungary, va', '0, 1 and 10 more')
    """
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
