"""A step: one named kind of model call, with its prompt and its reply schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin

from annotated_types import Le, MaxLen
from pydantic import BaseModel, ConfigDict, Field, create_model

from agents.core.items import LONGEST_TITLE

Mode = Literal["json", "text"]

StepKind = Literal[
    "extract",
    "rank",
    "choose",
    "group",
    "decide",
    "ask",
    "verbalise",
    "score",
    "summarise",
    "query",
]
"""What a step does, which selects the generic rule (`workers.backends.rules.answers`)."""

# Guided decoding only ends surely when strings are bounded and plain: no control characters,
# no double quote or backslash, which would need escapes. Validation does not repeat the
# pattern, since a server without guided decoding may rightly escape a quote.
_PLAIN = r'^[^"\\\u0000-\u001f]*$'


def text(limit: int, description: str | None = None) -> Any:
    """A bounded string field: `Annotated[str, text(300)]`."""
    return Field(
        min_length=1,
        max_length=limit,
        description=description,
        json_schema_extra={"pattern": _PLAIN},
    )


Title = Annotated[str, text(LONGEST_TITLE)]
"""An item's title, as a model writes it."""


class ReplyModel(BaseModel):
    """Base class of reply schemas. Every string in one must be bounded: use `text` and `Title`.

    Models write the fields in their declared order, so declare what a model should think of first
    (a thought, a reason, a remark) before its decision.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=ReplyModel)


class Bound(NamedTuple):
    """Bounds of one field: of a list's length (or a text's), and of the numbers in it."""

    length: int | None = None
    number: int | None = None


@dataclass(frozen=True)
class Step(Generic[R]):
    """One named kind of call.

    The prompt is the file `<name>.md.j2` in the plug-in's `prompts/` folder, rendered as one chat
    message. `kind` selects the generic rule of the `rules` backend. In the mode `text`, the model
    replies in plain text, which fills the only field of `reply`.
    """

    name: str
    kind: StepKind
    reply: type[R]
    mode: Mode = "json"

    def __post_init__(self) -> None:
        if self.mode == "text" and not {"type", "maxLength"} <= self.schema.keys():
            raise ValueError(f"step {self.name}: a text reply is one field, a bounded string")

    def bounded(self, **bounds: int | Bound) -> Step[R]:
        """The same step, with other bounds of some fields, sent and validated.

        A whole number bounds the length of a list or a text: `RECOMMEND.bounded(titles=10)`;
        `Bound(number=12)` also the numbers in it. A dotted name means a field of the objects in a
        list. Equal bounds give the same step: an engine compiles each distinct schema once, so
        let them follow options, which are constant in a cell, where they can.
        """
        given = ((n, b if isinstance(b, Bound) else Bound(b)) for n, b in bounds.items())
        return _bounded(self, tuple(sorted(given)))

    @cached_property
    def text_field(self) -> str:
        """The field that a text reply fills."""
        (name,) = self.reply.model_fields
        return name

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the reply; of a text reply, that of the one string."""
        whole = self.reply.model_json_schema()
        if self.mode == "json":
            return whole
        fields = list(whole.get("properties", {}).values())
        return fields[0] if len(fields) == 1 else {}

    @cached_property
    def schema_json(self) -> str:
        """The schema as guided decoding is sent it: an empty string for a text reply.

        Properties keep their declared order: guided decoding writes them in the order of the
        schema, so sorted keys would make a model decide before it thinks.
        """
        if self.mode == "text":
            return ""
        return json.dumps(self.schema, separators=(",", ":"))

    @cached_property
    def form(self) -> str:
        """The reply's form in words, for prompts (`{{ reply_form }}`).

        Descriptions of fields are put in as instructions: what reads like an answer, small models
        copy as their answer.
        """
        if self.mode == "text":
            limit, what = self.schema["maxLength"], _instruction(self.schema)
            return f"Answer with plain text of at most {limit} characters and nothing else.{what}"
        lines = ["Answer with one JSON object and nothing else. Its fields, in this order:"]
        return "\n".join([*lines, *_fields(self.schema, self.schema.get("$defs", {}), "")])

    @cached_property
    def closing(self) -> str:
        """The last line of every prompt, which asks for the reply.

        The form is part of the fixed instructions, far above. Without this line small models
        continue the inputs instead of replying (docs/designs/prompts.md).
        """
        if self.mode == "text":
            return "Answer now with plain text and nothing else."
        *others, last = (f'"{name}"' for name in self.reply.model_fields)
        fields = f"fields {', '.join(others)} and {last}" if others else f"field {last}"
        return f"Answer now with one JSON object with the {fields}, and nothing else."


def _fields(schema: Mapping[str, Any], defs: Mapping[str, Any], indent: str) -> Iterator[str]:
    """A line for each field of an object: its name, its type, and what to write."""
    for name, part in schema.get("properties", {}).items():
        yield f'{indent}- "{name}": {_kind(part, defs)}.{_instruction(part)}'
        inner = _resolved(part.get("items", part), defs)
        yield from _fields(inner, defs, indent + "  ")


def _instruction(part: Mapping[str, Any]) -> str:
    """A field's description as a sentence, with a space before it."""
    what = part.get("description", "").strip()
    return f" {what[0].upper()}{what[1:].removesuffix('.')}." if what else ""


def _kind(part: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """The type of a value with this schema, in words."""
    part = _resolved(part, defs)
    if "enum" in part:
        *others, last = (json.dumps(value, ensure_ascii=False) for value in part["enum"])
        return f"{', '.join(others)} or {last}" if others else last
    if "const" in part:
        return json.dumps(part["const"], ensure_ascii=False)
    if "anyOf" in part:
        return " or ".join(_kind(each, defs) for each in part["anyOf"])
    kind = str(part.get("type"))
    if kind == "array":
        members = _resolved(part["items"], defs)
        if "maxItems" not in part:
            return f"a list of {_members(members, several=True)}"
        most = part["maxItems"]
        return f"a list of at most {most} {_members(members, several=most > 1)}"
    if kind == "string":
        return (
            f"a string of at most {part['maxLength']} characters"
            if "maxLength" in part
            else "a string"
        )
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(part)
    return {"boolean": "true or false", "object": "an object"}.get(kind, kind)


def _members(part: Mapping[str, Any], *, several: bool) -> str:
    """The members of a list in words, without an article."""
    s, kind = "s" if several else "", str(part.get("type"))
    if kind == "integer":
        return f"whole number{s}{_range(part)}"
    if kind == "number":
        return f"number{s}{_range(part)}"
    if kind == "object":
        return "objects, each with the fields below" if several else "object with the fields below"
    return f"string{s}" if kind == "string" else f"value{s}"


def _range(part: Mapping[str, Any]) -> str:
    known = {"minimum", "maximum"} <= part.keys()
    return f" from {part['minimum']} to {part['maximum']}" if known else ""


def _resolved(part: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    return defs[part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part


@cache
def _bounded(step: Step[R], bounds: tuple[tuple[str, Bound], ...]) -> Step[R]:
    return replace(step, reply=_narrowed(step.reply, dict(bounds)))


def _narrowed(reply: type[R], bounds: Mapping[str, Bound]) -> type[R]:
    """`reply` with these bounds; fields keep their order, descriptions and validators."""
    heads = {name.partition(".")[0] for name in bounds}
    if unknown := heads - reply.model_fields.keys():
        raise ValueError(f"{reply.__name__} has no field {min(unknown)!r} to bound")
    fields: dict[str, Any] = {}
    for name in heads:
        info, own = reply.model_fields[name], bounds.get(name, Bound())
        inside = {n.partition(".")[2]: b for n, b in bounds.items() if n.startswith(f"{name}.")}
        annotation, metadata = info.annotation, info.metadata
        if get_origin(annotation) is list:
            annotation = list[_element(get_args(annotation)[0], own.number, inside)]
        elif own.number is not None:
            metadata = _with(metadata, Le(own.number))
        if own.length is not None:
            metadata = _with(metadata, MaxLen(own.length))
        about = Field(description=info.description, json_schema_extra=info.json_schema_extra)
        fields[name] = Annotated[annotation, about, *metadata]
    return create_model(reply.__name__, __base__=reply, __module__=reply.__module__, **fields)


def _element(annotation: Any, number: int | None, inside: Mapping[str, Bound]) -> Any:
    """The annotation of a list's elements, bounded."""
    if inside:
        return _narrowed(annotation, inside)
    if number is None:
        return annotation
    kind, *about = get_args(annotation)
    metadata = [m for each in about for m in getattr(each, "metadata", [each])]
    return Annotated[kind, *_with(metadata, Le(number))]


def _with(metadata: Iterable[Any], bound: Le | MaxLen) -> list[Any]:
    """`metadata` with `bound` instead of another of its type."""
    return [*(m for m in metadata if not isinstance(m, type(bound))), bound]
