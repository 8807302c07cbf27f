"""What a rule may know: the fields of a prompt, restricted to what the prompt shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from agents.core.calls import Call
from agents.core.dialogue import Message
from agents.core.items import Fact, Item
from agents.core.tables import Column
from simulators.core.profiles import BuyerBudget


class SeenItem(NamedTuple):
    """An item, as far as the prompt shows it."""

    title: str
    values: tuple[str, ...]
    price: float | None = None


class SeenMessage(NamedTuple):
    speaker: str
    text: str


class SeenColumn(NamedTuple):
    """A column of a table as far as the prompt shows it."""

    name: str
    type: str
    values: tuple[str, ...]


class SeenTable(NamedTuple):
    name: str
    columns: tuple[SeenColumn, ...]


class PromptView:
    """The fields of a prompt, restricted to what it shows.

    A leaf is visible if the template read it and the prompt contains it. Fields are examined when a
    rule asks for them.
    """

    def __init__(self, call: Call) -> None:
        assert call.shown is not None, "calls of the rules backend carry what they show"
        self._prompt = call.messages[0].content
        self._fields = call.fields
        self._names, self._pairs = call.shown

    @cached_property
    def conversation(self) -> tuple[SeenMessage, ...]:
        return tuple(map(self._message, self._field("conversation") or ()))

    @cached_property
    def shown_before(self) -> tuple[str, ...]:
        """Titles of the items shown with the messages of the conversation."""
        messages = self._field("conversation") or ()
        visible = (m for m in messages if m.shown and (id(m), "shown") in self._pairs)
        return tuple(t for m in visible for i in m.shown if (t := self._text(i, "title")))

    @cached_property
    def shown_last(self) -> tuple[str, ...]:
        """Titles of the items shown with the latest message of the other side."""
        messages: Sequence[Message] = self._field("conversation") or ()
        latest = next((m for m in reversed(messages) if m.speaker != "user"), None)
        if latest is None or (id(latest), "shown") not in self._pairs:
            return ()
        return tuple(title for item in latest.shown if (title := self._text(item, "title")))

    @cached_property
    def budget(self) -> BuyerBudget | None:
        """The price range that the speaker expects."""
        budget = self._field("budget")
        if not isinstance(budget, BuyerBudget):
            return None
        lowest, highest = self._amount(budget, "lowest"), self._amount(budget, "highest")
        return None if lowest is None or highest is None else BuyerBudget(lowest, highest)

    @cached_property
    def history(self) -> tuple[SeenItem, ...]:
        return self._titled("history")

    @cached_property
    def items(self) -> tuple[SeenItem, ...]:
        return self._titled("items")

    @cached_property
    def targets(self) -> tuple[SeenItem, ...]:
        """The items that the speaker wants, even if their titles are not shown."""
        target = self._field("target")
        several = self._field("targets") or ()
        return tuple(map(self._item, several if target is None else (target, *several)))

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        return self._facts("facts")

    @cached_property
    def wishes(self) -> tuple[Fact, ...]:
        return self._facts("wishes")

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        return self._strings("attributes")

    @cached_property
    def options(self) -> tuple[str, ...]:
        return self._strings("options")

    @cached_property
    def preferences(self) -> tuple[str, ...]:
        return self._strings("preferences")

    @cached_property
    def question(self) -> str:
        question = self._field("question")
        return question if question and question in self._prompt else ""

    @cached_property
    def limit(self) -> int | None:
        limit = self._field("limit")
        return limit if limit is not None and str(limit) in self._prompt else None

    @cached_property
    def table(self) -> SeenTable | None:
        table = self._field("table")
        if table is None or (id(table), "columns") not in self._pairs:
            return None
        columns = map(self._column, table.columns)
        shown = tuple(column for column in columns if column.name)
        return SeenTable(name, shown) if (name := self._text(table, "name")) else None

    def _field(self, name: str) -> Any:
        return self._fields.get(name) if name in self._names else None

    def _text(self, owner: Any, attribute: str) -> str:
        if (id(owner), attribute) not in self._pairs:
            return ""
        value: str = getattr(owner, attribute)
        return value if value in self._prompt else ""

    def _amount(self, owner: Any, attribute: str) -> float | None:
        """An amount of money, which prompts write with two digits or as short as possible."""
        if (id(owner), attribute) not in self._pairs:
            return None
        value: float | None = getattr(owner, attribute)
        if value is None or not any(f"{value:{form}}" in self._prompt for form in (".2f", ".15g")):
            return None
        return value

    def _strings(self, name: str) -> tuple[str, ...]:
        return tuple(s for s in self._field(name) or () if s in self._prompt)

    def _facts(self, name: str) -> tuple[Fact, ...]:
        facts = self._field(name) or ()
        seen = (Fact(self._text(f, "attribute"), self._text(f, "value")) for f in facts)
        return tuple(fact for fact in seen if fact.value)

    def _titled(self, name: str) -> tuple[SeenItem, ...]:
        seen = map(self._item, self._field(name) or ())
        return tuple(item for item in seen if item.title)

    def _item(self, item: Item) -> SeenItem:
        title, price = self._text(item, "title"), self._amount(item, "price")
        if (id(item), "attributes") not in self._pairs:
            return SeenItem(title, (), price)
        owner = id(item.attributes)
        whole = (owner, "items") in self._pairs or (owner, "values") in self._pairs
        values = [
            value
            for name, all_values in item.attributes.items()
            if whole or (owner, name) in self._pairs
            for value in all_values
            if value in self._prompt
        ]
        return SeenItem(title, tuple(values), price)

    def _column(self, column: Column) -> SeenColumn:
        shown = column.values if (id(column), "values") in self._pairs else ()
        values = tuple(value for value in shown if value in self._prompt)
        return SeenColumn(self._text(column, "name"), self._text(column, "type"), values)

    def _message(self, message: Message) -> SeenMessage:
        speaker = message.speaker if (id(message), "speaker") in self._pairs else ""
        return SeenMessage(speaker, self._text(message, "text"))
