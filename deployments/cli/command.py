"""A command whose help explains its arguments too."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo


class Command(TyperCommand):
    """Typer 0.20 loses the help of arguments with click 8.4 and later, whose own constructor sets
    it again, to nothing; it is still in the function's annotations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.callback is None:
            return
        hints = get_type_hints(inspect.unwrap(self.callback), include_extras=True)
        for param in self.params:
            if isinstance(param, TyperArgument) and not param.help:
                told = [one for one in get_args(hints[param.name]) if isinstance(one, ArgumentInfo)]
                param.help = told[0].help if told else None
