"""The messages between the agent `http` and an external recommender: one request and one answer per
turn.

docs/http-agent.md describes the protocol for authors of servers.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agents.core.dialogue import Action, Dialogue, Message
from agents.core.items import LONGEST_TITLE, Item

PROTOCOL = 1
MOST_RANKED = 1000
_QUOTED = 200  # characters of a server's words that a message repeats


class BadAnswer(ValueError):
    """The server's answer violates the protocol; the message says what was expected."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedItem(_Part):
    """An item by its id in the catalogue, or by its title."""

    id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)] | None = None

    @model_validator(mode="after")
    def _one_name(self) -> NamedItem:
        if (self.id is None) == (self.title is None):
            raise ValueError("expected either id or title")
        return self


class TurnAnswer(_Part):
    """The answer of a server: a turn of the recommender."""

    message: Annotated[str, Field(min_length=1, max_length=20_000)]
    shown: Annotated[list[NamedItem], Field(max_length=100)] = []
    ranking: Annotated[list[NamedItem], Field(max_length=MOST_RANKED)] | None = None
    action: Action | None = None
    strategy: Annotated[str, Field(min_length=1, max_length=100)] | None = None


class ErrorAnswer(_Part):
    """The reason why there is no turn, and who is to blame."""

    error: Annotated[str, Field(max_length=20_000)]
    blame: Literal["agent", "infrastructure"] = "agent"


def request_of(
    dialogue: Dialogue,
    *,
    session: str,
    noun: str,
    seed: int,
    shown_items: int,
    history: tuple[Item, ...],
) -> dict[str, Any]:
    """The body of a request (JSON types)."""
    return {
        "protocol": PROTOCOL,
        "session": session,
        "turn": dialogue.turn,
        "noun": noun,
        "seed": seed,
        "shown_items": shown_items,
        "history": [_named(item) for item in history],
        "conversation": [_said(message) for message in dialogue.messages],
    }


def answer_of(body: bytes) -> TurnAnswer | ErrorAnswer:
    """The answer in a body. Raises BadAnswer if it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadAnswer(f"expected a JSON object, found {_short(body)}") from None
    if not isinstance(found, dict):
        raise BadAnswer(f"expected a JSON object, found {_short(body)}")
    kind = ErrorAnswer if "error" in found else TurnAnswer
    try:
        return kind.model_validate(found, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise BadAnswer(f"{where}: {first['msg']}") from None


def _named(item: Item) -> dict[str, str]:
    return {"id": item.id, "title": item.title}


def _said(message: Message) -> dict[str, Any]:
    return {
        "speaker": message.speaker,
        "text": message.text,
        "shown": [_named(item) for item in message.shown],
    }


def _short(body: bytes) -> str:
    text = " ".join(body[: 4 * _QUOTED].decode("utf-8", "replace").split())
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")
