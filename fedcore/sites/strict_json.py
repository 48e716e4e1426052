"""JSON from outside: one meaning per text, bounded before anything is built from it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from fedcore.sites.refusal import Reason, Refusal

MOST_DEPTH = 12
MOST_INTEGER = 2**63
# A string with its escapes; what is left of a text without strings shows its depth.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse(data: bytes, *, most_bytes: int) -> Any:
    """The JSON value of a text that has only one reading.

    Refused are: more than ``most_bytes``, a depth over 12, repeated keys, NaN and infinities (also
    as 1e999), integers of more than 63 bits, lone surrogates, anything that is not UTF-8.

    Raises:
      Refusal: ``too_large`` or ``not_json``.
    """
    if len(data) > most_bytes:
        raise Refusal(Reason.TOO_LARGE, "message")
    _refuse_depth(data)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        raise Refusal(Reason.NOT_JSON, "message") from error
    return value


def _refuse_depth(data: bytes) -> None:
    depth = 0
    for byte in _STRING.sub(b"", data):
        if byte in b"[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise Refusal(Reason.NOT_JSON, "depth")
        elif byte in b"]}":
            depth -= 1


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Refusal(Reason.NOT_JSON, "repeated key")
    return value


def _no_constant(text: str) -> NoReturn:
    raise Refusal(Reason.NOT_JSON, "number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refusal(Reason.NOT_JSON, "number")
    return number


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= MOST_INTEGER:
        raise Refusal(Reason.NOT_JSON, "number")
    return int(text)
