"""How a backbone and its head stand in the library ``transformers``, and in PEFT."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InLibrary:
    """What a model was before its head was taken off.

    Attributes:
      auto: the class of ``transformers`` that loads it.
      own: path of the part of our head that it has too; empty: all of it.
      place: path where it has that part; None: it has none, the head is ours alone.
      task_type: PEFT's name of what it is for; None: PEFT has none.
      has_head: whether we have a head; else what it gives is not changed by one of ours.
    """

    auto: str
    own: str
    place: str | None
    task_type: str | None = None
    has_head: bool = True

    @property
    def is_bare(self) -> bool:
        """Whether our head has no place in it, and lies beside what is exported."""
        return self.has_head and self.place is None

    def head_name(self, name: str) -> str:
        """Of a tensor ``head.*`` of ours, its name there (without a place: by itself).

        >>> InLibrary("AutoModelForImageClassification", "1", "classifier").head_name("head.1.bias")
        'classifier.bias'
        """
        prefix = f"head.{self.own}." if self.own else "head."
        rest = name.removeprefix(prefix)
        return rest if self.place is None else f"{self.place}.{rest}"
