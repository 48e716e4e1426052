"""A prompt and its response as one text, so that they travel like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedcore.data.text_bytes import encoded

# U+001E, "record separator": for what it was made, and white space to whoever counts words.
SEPARATOR = "\x1e"


def join(prompts: Sequence[str], responses: Sequence[str], most_bytes: int) -> list[str]:
    """Each prompt, a separator and its response, in at most ``most_bytes`` of UTF-8 (NFC).

    Of what is too long the prompt loses its beginning, so that the response stays whole; a response
    that is too long by itself loses its end, as any text.

    >>> join(["Sum of 2 and 3?"], ["5"], 100)
    ['Sum of 2 and 3?\\x1e5']
    >>> join(["Sum of 2 and 3?"], ["5"], 6)
    ['d 3?\\x1e5']

    Raises:
      ValueError: a text holds the separator; says which one, never what it says.
    """
    for what, texts in (("prompt", prompts), ("response", responses)):
        check_separator(what, texts)
    joined = []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        left = most_bytes - len(encoded(SEPARATOR + response, number))
        before = encoded(prompt, number)
        kept = before[max(0, len(before) - left) :] if left > 0 else b""
        joined.append(kept.decode("utf-8", errors="ignore") + SEPARATOR + response)
    return joined


def part(text: str) -> tuple[str, str]:
    """The prompt and the response of a joined text; of any other text no prompt and all of it.

    >>> part("Sum of 2 and 3?\\x1e5"), part("5")
    (('Sum of 2 and 3?', '5'), ('', '5'))
    """
    prompt, _, response = text.rpartition(SEPARATOR)
    return prompt, response


def text_column(features: Mapping[str, Any]) -> str:
    """What a served model calls the column of the texts that it reads.

    >>> text_column({"kind": "text", "most_bytes": 40, "prompted": True})
    'prompt'
    """
    return "prompt" if features.get("prompted") else "text"


def check_separator(what: str, texts: Sequence[str]) -> None:
    """Refuses texts in which the separator would be taken for the end of a prompt.

    Args:
      what: the texts are called.

    Raises:
      ValueError: one holds it; says which one.
    """
    for number, text in enumerate(texts):
        if SEPARATOR in text:
            raise ValueError(
                f"{what} {number} holds the character U+001E, which stands between a prompt and "
                "its response here. Remove it from the data."
            )
