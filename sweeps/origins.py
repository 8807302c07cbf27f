"""Where each part of a configuration came from, so that an error can name file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from agents.core.errors import UsageError, near

Path = tuple[str, ...]


@dataclass
class Origins:
    """Maps a path of keys to words such as `sweeps/x.yaml:12`. Later entries win."""

    places: dict[Path, str] = field(default_factory=dict)

    def note_file(self, file: str, node: yaml.Node | None, path: Path = ()) -> None:
        """Notes every key of a composed YAML document."""
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                self.places[here] = f"{file}:{key.start_mark.line + 1}"
                self.note_file(file, value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                here = (*path, str(index))
                self.places[here] = f"{file}:{value.start_mark.line + 1}"
                self.note_file(file, value, here)

    def replace(self, path: Sequence[str], place: str) -> None:
        """Notes that all of `path` comes from `place` now."""
        keys = tuple(path)
        for known in [k for k in self.places if k[: len(keys)] == keys]:
            del self.places[known]
        self.places[keys] = place

    def of(self, path: Sequence[Any]) -> str:
        """The place of `path`, else of what stands in it, else of its nearest parent."""
        found = tuple(str(part) for part in path)
        inside = next((k for k in self.places if found and k[: len(found)] == found), None)
        while found:
            if found in self.places:
                return self.places[found]
            if inside is not None:
                return self.places[inside]
            found = found[:-1]
        return self.places.get((), "sweep")

    def of_axis(self, path: str) -> str | None:
        """The place of the grid axis that sets `path`, if one does."""
        for block in [("grid",), *(k[:2] for k in self.places if k and k[0] in ("grids", "zip"))]:
            place = self.places.get((*block, path))
            if place is not None:
                return place
        return None

    def refuse(self, path: Sequence[Any], message: str) -> UsageError:
        """An error that begins with file, line and the path in the file."""
        dotted = ".".join(str(part) for part in path)
        return UsageError(
            f"{self.of(path)}: {dotted}: {message}" if dotted else f"{self.of(path)}: {message}"
        )


def check(
    model: type[BaseModel], data: Mapping[str, Any], origins: Origins, at: Sequence[Any] = ()
) -> Any:
    """`data` as `model`, or UsageError on its first mistake, with place, expectation, near match.

    `at` is where `data` stands in the sweep file.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, model, origins, at) from None


def explain(
    error: ValidationError, model: type[BaseModel], origins: Origins, at: Sequence[Any]
) -> UsageError:
    """The first mistake in words."""
    # An unknown key comes before a missing one: it is most often the misspelt missing key.
    mistakes = error.errors(include_url=False)
    mistakes.sort(key=lambda m: m["type"] != "extra_forbidden")
    first = mistakes[0]
    inner = [part for part in first["loc"] if not _is_union_tag(part)]
    path = [*at, *inner]
    found = first.get("input")
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, inner[:-1])
        text = f"unknown key {inner[-1]!r}{near(str(inner[-1]), known)}"
        if known:
            text += f" (known: {', '.join(sorted(known))})"
    elif first["type"] == "missing":
        text = "is missing"
    elif first["type"] == "value_error":
        text = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        key, colon, rest = text.partition(": ")
        if colon and key in _fields_at(model, inner):
            path, text = [*path, key], rest  # a check of the whole part that names the key it is of
        if not isinstance(found, dict):
            text += f", found {found!r}"
    elif first["type"] == "literal_error":
        expected = str(first.get("ctx", {}).get("expected"))
        options = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
        text = f"expected {expected}, found {found!r}{near(str(found), options)}"
    else:
        text = f"{_plain(first['msg'])}, found {_short(found)}"
    return origins.refuse(path, text)


def _plain(message: str) -> str:
    return message[0].lower() + message[1:] if message else message


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_union_tag(part: Any) -> bool:
    """pydantic names the branch of a union in an error's path (`function-before[...]`)."""
    return isinstance(part, str) and ("[" in part or part in ("int", "none", "str"))


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Field names of the model that stands at `path` inside `model`."""
    current: Any = model
    for part in path:
        if get_origin(current) is dict:
            current = get_args(current)[1]  # `part` is a name that the file gives
        else:
            fields = getattr(current, "model_fields", {})
            current = fields[part].annotation if part in fields else None
        if get_origin(current) is dict:
            continue
        if not isinstance(current, type) or not issubclass(current, BaseModel):
            parts = getattr(current, "__args__", ())
            models = [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]
            current = models[0] if models else None
        if current is None:
            return []
    return list(getattr(current, "model_fields", ()))  # none of a mapping
