"""The base of every settings class, frozen and strict; and the plug-in member of unions."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from fedcore import form


class Settings(BaseModel):
    """A section of a run's configuration. Unknown keys are refused; instances cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        form.draw(handler.resolve_ref_schema(schema), cls.__doc__ or "")
        return schema


class Plugin(Settings, title="Plug-in"):
    """A choice that another installed package provides through an entry point."""

    kind: Literal["plugin"] = "plugin"
    name: str = Field(description="Name of the entry point, as its package declares it.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the plug-in's factory."
    )

    def load(self, group: str) -> Any:
        """The object behind the entry point ``name`` in ``group``, e.g. ``fedloom.models``.

        Raises:
          ValueError: no installed package declares it; the message lists those that are.
        """
        found = {point.name: point for point in entry_points(group=group)}
        if self.name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise ValueError(
                f"plugin name={self.name!r} is not an installed entry point of {group!r}; "
                f"installed: {known}. Install the package that declares it."
            )
        return found[self.name].load()
