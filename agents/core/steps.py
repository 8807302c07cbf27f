"""A step: one named kind of model call, with its prompt, its reply schema and its kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agents.core.items import LONGEST_TITLE

Mode = Literal["json", "text"]

Kind = Literal[
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
"""What a step does, in the words of the generic rules (`agents.core.rules`)."""

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
    """Base of reply schemas. Every string in one is bounded: use `text` and `Title`.

    Models write the fields in the order in which they are declared: what a model has to think of
    first (a thought, a reason, a remark) comes before what it decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=ReplyModel)


@dataclass(frozen=True)
class Step(Generic[R]):
    """One named kind of call.

    The prompt is the file `<name>.md.j2` of the plug-in's `prompts/` folder, rendered as one
    chat message. `kind` picks the generic rule that answers for the `rules` backend. With the
    mode `text` the model replies in plain text, which fills the one field of `reply`.
    """

    name: str
    kind: Kind
    reply: type[R]
    mode: Mode = "json"

    def __post_init__(self) -> None:
        if self.mode == "text" and not {"type", "maxLength"} <= self.schema.keys():
            raise ValueError(f"step {self.name}: a text reply is one field, a bounded string")

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
        """The reply's form in words, for prompts (`{{ reply_form }}`)."""
        if self.mode == "text":
            limit, what = self.schema["maxLength"], self.schema.get("description")
            form = f"Answer with plain text of at most {limit} characters and nothing else"
            return f"{form}: {what}." if what else f"{form}."
        lines = ["Answer with one JSON object and nothing else. Its fields:"]
        for name, info in self.reply.model_fields.items():
            lines.append(f"- {name}: {info.description or 'as its name says'}")
        return "\n".join(lines)
