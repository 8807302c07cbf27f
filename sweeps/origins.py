"""Where each part of a configuration came from, so that an error can name file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from agents.core.errors import UsageError, near
from agents.core.plugins import Options
from sweeps.document import Document, KeyPath, ambiguous, parse_document


@dataclass
class Origins:
    """Maps a path of keys to a location such as `sweeps/x.yaml:12`. Later entries win."""

    places: dict[KeyPath, str] = field(default_factory=dict)
    plain: dict[KeyPath, frozenset[str]] = field(default_factory=dict)
    """Path -> `Document.plain` there; for an axis, those of all its values."""
    files: list[Path] = field(default_factory=list)
    """Every file that was read."""

    def note(self, file: str, document: Document, *, numbered: bool = True) -> None:
        """Records every key of a file, with its line if the lines are `numbered`."""
        for path, line in document.lines.items():
            self.places[path] = f"{file}:{line}" if numbered else file
            self.plain.pop(path, None)
        for path, written in document.plain.items():
            self.plain[path] = frozenset((written,))

    def replace(self, path: Sequence[str], place: str, document: Document | None = None) -> None:
        """Records that all of `path` now comes from `place`, with `document` as its value."""
        keys = self._forget(path)
        self.places[keys] = place
        if document is not None:
            for below, written in document.plain.items():
                self.plain[(*keys, *below)] = frozenset((written,))

    def replace_by_axis(self, path: Sequence[str], axis: str) -> None:
        """Records that all of `path` comes from the grid axis `axis`, if there is one."""
        place = self.of_axis(axis)
        if place is None:
            return
        keys = self._forget(path)
        self.places[keys] = place
        for block in self._blocks():
            above = (*block, axis)
            for known, written in [k for k in self.plain.items() if k[0][: len(above)] == above]:
                below = (*keys, *known[len(above) + 1 :])
                self.plain[below] = self.plain.get(below, frozenset()) | written

    def _forget(self, path: Sequence[str]) -> KeyPath:
        keys = tuple(path)
        for noted in (self.places, self.plain):
            for known in [k for k in noted if k[: len(keys)] == keys]:
                del noted[known]
        return keys

    def _blocks(self) -> list[KeyPath]:
        """The paths of mappings of axes."""
        listed = (k[:2] for k in self.places if len(k) > 1 and k[0] in ("grids", "zip"))
        return [("grid",), *dict.fromkeys(listed)]

    def written(self, path: Sequence[Any], value: Any) -> str | None:
        """How the scalar `value` at `path` is written, if that differs from its value."""
        for text in sorted(self.plain.get(tuple(map(str, path)), ())):
            if type(found := parse_document(text).value) is type(value) and found == value:
                return text
        return None

    def of(self, path: Sequence[Any]) -> str:
        """The location of `path`, or of its contents, or of its nearest parent."""
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
        """The location of the grid axis that sets `path`, if one does."""
        for block in self._blocks():
            place = self.places.get((*block, path))
            if place is not None:
                return place
        return None

    def refuse(self, path: Sequence[Any], message: str) -> UsageError:
        """Raises an error that begins with file, line and the path in the file."""
        dotted = ".".join(str(part) for part in path)
        return UsageError(
            f"{self.of(path)}: {dotted}: {message}" if dotted else f"{self.of(path)}: {message}"
        )


def check(
    model: type[BaseModel],
    data: Mapping[str, Any],
    origins: Origins,
    at: Sequence[Any] = (),
    also: Sequence[str] = (),
) -> Any:
    """`data` as `model`, or UsageError on its first mistake, with place, expectation, near match.

    `at` is where `data` is in the sweep file; `also` are keys that may be there too, and were
    taken out of `data`.
    """
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        raise explain(error, model, origins, at, also) from None
    if isinstance(found, Options):
        _refuse_ambiguous(type(found), data, origins, at)
    return found


def _refuse_ambiguous(
    model: type[Options], data: Mapping[str, Any], origins: Origins, at: Sequence[Any]
) -> None:
    """Refuses scalars such as a bare `on` in options whose type crsweep cannot check."""
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is dict:
            _refuse_ambiguous_in(value, origins, (*at, name))


def _refuse_ambiguous_in(value: Any, origins: Origins, at: Sequence[Any]) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_ambiguous_in(part, origins, (*at, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_ambiguous_in(part, origins, (*at, index))
    else:
        written = origins.written(at, value)
        meant = None if written is None else ambiguous(written)
        if meant is not None:
            advice = _quoted(origins, at, str(written))
            raise origins.refuse(
                at, f"YAML readers differ on '{written}': write {meant}, or {advice}"
            )


def explain(
    error: ValidationError,
    model: type[BaseModel],
    origins: Origins,
    at: Sequence[Any],
    also: Sequence[str] = (),
) -> UsageError:
    """The first mistake in words. `also` are further keys that are known at `at`."""
    # An unknown key comes before a missing one: it is most often the misspelt missing key.
    mistakes = error.errors(include_url=False)
    mistakes.sort(key=lambda m: m["type"] != "extra_forbidden")
    first = mistakes[0]
    inner = [part for part in first["loc"] if not _is_union_tag(part)]
    path = [*at, *inner]
    kind, found = first["type"], first.get("input")
    if kind == "extra_forbidden":
        known = [*_fields_at(model, inner[:-1]), *(also if len(inner) == 1 else ())]
        text = f"unknown key {inner[-1]!r}{near(str(inner[-1]), known)}{_known(known)}"
    elif kind == "missing":
        text = "is missing"
    elif kind == "value_error":
        text = str(first["ctx"]["error"]) if "ctx" in first else first["msg"]
        key, colon, rest = text.partition(": ")
        if colon and key in _fields_at(model, inner):
            path, text = [*path, key], rest  # a check of the whole part that names the key it is of
        if not isinstance(found, dict) and (found == "" or str(found) not in text):
            text += f", found {shown(found)}"
    elif kind == "literal_error":
        expected = str(first.get("ctx", {}).get("expected"))
        options = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
        text = f"expected {expected}, found {shown(found)}{near(str(found), options)}"
    else:
        written = origins.written(path, found)
        if written is None:
            written = shown(found)
        text = f"{_expected(kind, first)}, found {written or 'nothing'}"
        if kind in _TEXT and written and not isinstance(found, Mapping | list):
            text += f"; {_quoted(origins, path, written)}"
        elif kind in _MAPPING:
            text += _known(_fields_at(model, inner))
    return origins.refuse(path, text)


_TEXT = ("string_type", "path_type")
_MAPPING = ("dict_type", "model_type", "model_attributes_type")


def _expected(kind: str, mistake: Any) -> str:
    """What the field accepts, by pydantic's name of the mistake."""
    bounds = mistake.get("ctx", {})
    if kind.startswith("int_"):
        return "expected a whole number"
    if kind.startswith("float_"):
        return "expected a number"
    if kind.startswith("bool_"):
        return "expected true or false"
    if kind in _TEXT:
        return "expected text"
    if kind in _MAPPING:
        return "expected a mapping"
    match kind:
        case "list_type" | "tuple_type":
            return "expected a list"
        case "too_short":
            return f"expected at least {_entries(bounds['min_length'])}"
        case "too_long":
            return f"expected at most {_entries(bounds['max_length'])}"
        case "string_too_short":
            return "expected text that is not empty"
        case "string_too_long":
            return f"expected at most {bounds['max_length']} characters"
        case "greater_than_equal":
            return f"expected a number of at least {bounds['ge']:,.15g}"
        case "greater_than":
            return f"expected a number above {bounds['gt']:,.15g}"
        case "less_than_equal":
            return f"expected a number of at most {bounds['le']:,.15g}"
        case "less_than":
            return f"expected a number below {bounds['lt']:,.15g}"
        case "finite_number":
            return "expected a finite number"
    message = mistake["msg"]
    return message[0].lower() + message[1:]


def _entries(count: int) -> str:
    return "one entry" if count == 1 else f"{count} entries"


def _known(keys: Sequence[str]) -> str:
    return f" (known: {', '.join(sorted(keys))})" if keys else ""


def _quoted(origins: Origins, path: Sequence[Any], written: str) -> str:
    """Advice on how to write `written` as text."""
    listed = any(isinstance(part, int) for part in path)
    if (
        origins.of(path).startswith("override ") and not listed
    ):  # where the shell takes the outer quotes away
        return f"""put it in quotes within quotes: '{".".join(map(str, path))}="{written}"'"""
    return f'put it in quotes: "{written}"'


def in_words(value: Any) -> str:
    """The kind of a value: `a list`, `the number 5`."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    kind = "the number " if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return kind + shown(value)


def shown(value: Any) -> str:
    """A value as a sweep file would have it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_union_tag(part: Any) -> bool:
    """Whether this part of an error's path is pydantic's name for a branch of a union
    (`function-before[...]`)."""
    return isinstance(part, str) and ("[" in part or part in ("int", "none", "str"))


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Field names of the model at `path` inside `model`."""
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
