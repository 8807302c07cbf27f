"""Dialogues recorded elsewhere: the import format, and how it is read.

A reader of a published layout is a module here. It exports one function, which has the name of the
module, turns the file at a path into records of the import format (docs/recordings.md), and passes
them to `recordings_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.core.errors import DataError, near
from agents.core.items import LONGEST_TITLE, Item
from agents.core.text import repaired_deep
from simulators.core.judge import RecordedDialogue, RecordedTurn
from simulators.core.recordings import Label, Recordings
from simulators.domains.core.files import short

_Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f<>\[\]]+$")]
_Labels = dict[_Name, Annotated[float, Field(strict=True)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Item(_Part):
    title: Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)]
    id: str | None = None
    attributes: dict[_Name, list[str]] = Field(default_factory=dict)
    description: str = ""
    price: Annotated[float, Field(strict=True)] | None = None

    def item(self) -> Item:
        values = {name: tuple(map(_line, given)) for name, given in self.attributes.items()}
        title = _line(self.title)
        return Item(self.id or title, title, values, _line(self.description), self.price)


class _Message(_Part):
    speaker: Literal["user", "recommender"]
    text: str
    shown: list[_Item | str] = Field(default_factory=list)
    accepted: str | None = None
    labels: _Labels = Field(default_factory=dict)


class _Record(_Part):
    id: Annotated[str, Field(min_length=1)]
    noun: _Name = "item"
    messages: Annotated[list[_Message], Field(min_length=1)]
    labels: _Labels = Field(default_factory=dict)


def recordings_of(records: Iterable[tuple[str, Any]]) -> Recordings:
    """The dialogues and labels of `records` of the import format, each with its place in a file.

    DataError, with the place, for a record that is malformed or whose id is taken.
    """
    dialogues: dict[str, RecordedDialogue] = {}
    labels: list[Label] = []
    for where, given in records:
        try:
            record = _Record.model_validate(repaired_deep(given))
        except ValidationError as error:
            raise DataError(f"{where}: {_complaint(error)}") from None
        if record.id in dialogues:
            raise DataError(f"{where}: id: {short(record.id)} is the id of an earlier dialogue too")
        dialogues[record.id] = _dialogue(record, where)
        labels += _labels(record)
    return Recordings(dialogues, tuple(labels))


def _dialogue(record: _Record, where: str) -> RecordedDialogue:
    messages = record.messages
    for index in range(len(messages)):
        _check(messages, index, f"{where}: messages[{index}]")
    opening = messages[0].text if messages[0].speaker == "user" else None
    turns: list[RecordedTurn] = []
    known: dict[str, Item] = {}
    for index in range(int(opening is not None), len(messages), 2):
        said = messages[index]
        answer = messages[index + 1] if index + 1 < len(messages) else None
        shown = tuple(map(_item, said.shown))
        known |= {name: item for item in shown for name in (item.id, item.title)}
        accepted = None
        if answer is not None and answer.accepted is not None:
            accepted = _accepted(answer.accepted, known, f"{where}: messages[{index + 1}]")
        turns.append(
            RecordedTurn(
                number=len(turns) + 1,
                agent_text=said.text,
                action=None,
                shown=shown,
                user_text=None if answer is None else answer.text,
                user_decision=None if accepted is None else "accept",
                accepted=accepted,
            )
        )
    return RecordedDialogue(record.noun, opening, tuple(turns))


def _check(messages: Sequence[_Message], index: int, at: str) -> None:
    """Raises DataError if the message cannot follow those before it, or has the other's fields."""
    message = messages[index]
    if index and message.speaker == messages[index - 1].speaker:
        raise DataError(
            f"{at}: two messages of the {message.speaker} follow each other; join their texts"
        )
    if message.speaker == "user":
        others = {"shown": message.shown, "labels": message.labels}
        owner = "recommender"
    else:
        others = {"accepted": message.accepted is not None}
        owner = "user"
    for name, given in others.items():
        if given:
            raise DataError(f"{at}: {name}: only messages of the {owner} have this field")
    if index == 0 and message.accepted is not None:
        raise DataError(f"{at}: accepted: no item was shown before")


def _accepted(name: str, known: Mapping[str, Item], at: str) -> Item:
    found = known.get(_line(name))
    if found is None:
        raise DataError(
            f"{at}: accepted: found {short(name)}, expected the id or title of an item that was "
            f"shown before{near(name, known)}"
        )
    return found


def _labels(record: _Record) -> Iterator[Label]:
    replies = [message for message in record.messages if message.speaker == "recommender"]
    for number, reply in enumerate(replies, start=1):
        for name, value in reply.labels.items():
            yield Label(record.id, number, name, value)
    for name, value in record.labels.items():
        yield Label(record.id, None, name, value)


def _item(given: _Item | str) -> Item:
    return _Item(title=given).item() if isinstance(given, str) else given.item()


def _line(text: str) -> str:
    return " ".join(text.split())


def _complaint(error: ValidationError) -> str:
    """The first mistake: where it is, what was found, and what was expected."""
    first = error.errors(include_url=False)[0]
    place = ""
    for part in first["loc"]:
        if part in (_Item.__name__, "str"):  # which of the forms of a shown item was tried
            continue
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    place = place.removeprefix(".")
    if first["type"] == "extra_forbidden":
        known = {name for model in (_Record, _Message, _Item) for name in model.model_fields}
        return f"{place}: there is no such field{near(str(first['loc'][-1]), known)}"
    expected = first["msg"].replace("Input should be", "expected").replace("Field", "the field")
    found = "" if first["type"] == "missing" else f"found {short(str(first['input']))}, "
    return f"{place}: {found}{expected}" if place else f"{found}{expected}"
