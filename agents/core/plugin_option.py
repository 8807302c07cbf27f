"""A plug-in as an option of another: its name alone, or a mapping with its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator
from pydantic_core import ErrorDetails

from agents.core import plugins
from agents.core.errors import UsageError, near
from agents.core.plugins import Options


class PluginOption(BaseModel):
    """A name, or `{name: ..., option: ...}`, of a plug-in of the kind that a subclass states."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    package: ClassVar[str]
    """The package of the plug-ins."""
    noun: ClassVar[str]
    """What one is called in messages, after "a"."""
    name: str
    options: Options

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise ValueError(
                f"expected a {cls.noun}'s name, or a mapping with `name` and options, "
                f"found {given!r}"
            )
        name = given["name"]
        try:
            found = plugins.load(cls.package, name, cls.noun)
        except UsageError as error:
            raise ValueError(error.message) from None
        options = given.get("options")
        if isinstance(options, Options):
            return {"name": name, "options": options}
        rest = {key: value for key, value in given.items() if key != "name"}
        try:
            return {"name": name, "options": plugins.build_options(found.Options, rest)}
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"{name}: {_mistake(first, found.Options)}") from None

    @model_serializer
    def identity(self) -> dict[str, Any]:
        """The name, and the options that decide what comes of it."""
        return {"name": self.name, **self.options.identity()}

    @property
    def plugin(self) -> Any:
        """The class of this name."""
        return plugins.load(self.package, self.name, self.noun)


def _mistake(first: ErrorDetails, options: type[Options]) -> str:
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = sorted(options.model_fields)
        hint = near(where, known) or f" (known: {', '.join(known) or 'none'})"
        return f"unknown option {where!r}{hint}"
    text = first["msg"].removeprefix("Value error, ")
    return f"{where}: {text}, found {first['input']!r}" if where else text
