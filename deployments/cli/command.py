"""A command whose help explains its arguments too, and a group that is also a command."""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_type_hints

from typer.core import TyperArgument, TyperCommand, TyperGroup
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


class GroupWithDefault(TyperGroup):
    """A group whose first command runs where none of its commands is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the group does, with the first command's name before what is not for the group."""
        asks_for_help = args and args[0] in ctx.help_option_names
        if not asks_for_help and not (args and args[0] in self.commands):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)
