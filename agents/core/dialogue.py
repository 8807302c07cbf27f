"""The messages of a dialogue, as both sides see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from agents.core.items import Item
from agents.core.text import json_form, repaired

Action = Literal["ask", "recommend", "chat", "persuade"]
SpeakerName = Literal["user", "recommender", "note"]
_ACTIONS = get_args(Action)


class Message(NamedTuple):
    """One message. `shown` are the items shown with it, in order."""

    speaker: SpeakerName
    text: str
    shown: tuple[Item, ...] = ()


LEFT_OUT = Message("note", "earlier turns are left out here")
"""Replaces, in prompts, the turns that `history_turns` cuts."""


@dataclass(slots=True)
class Dialogue:
    """The dialogue so far, as one side sees it.

    `whole` has every message, beginning with the user's opening, and grows by two per turn. Pass
    `messages` to prompts. `history_turns` is the side's own option of that name.
    """

    whole: list[Message] = field(default_factory=list)
    history_turns: int | None = None

    @property
    def messages(self) -> list[Message]:
        """The messages for prompts: all of them, or a note and the last `history_turns` turns.

        A turn is the recommender's message and the user's answer, if there is one yet; the opening
        is a separate turn. The list is a copy, which does not grow.
        """
        if self.history_turns is None:
            return self.whole.copy()
        open_turn = len(self.whole) % 2 == 0  # the user's answer is still to come
        latest = 2 * self.history_turns - open_turn
        if latest >= len(self.whole):
            return self.whole.copy()
        return [LEFT_OUT, *self.whole[-latest:]]

    @property
    def turn(self) -> int:
        """Number of the current turn, from 1; 0 before the opening."""
        return (len(self.whole) + 1) // 2

    @property
    def shown(self) -> tuple[Item, ...]:
        """The items of the recommender's latest message."""
        return next((m.shown for m in reversed(self.whole) if m.speaker == "recommender"), ())


@dataclass(frozen=True, slots=True)
class AgentTurn:
    """One reply of a recommender agent.

    - `ranking`: what it would recommend, best first, as deep as it knows; None if unknown (an
      asking agent without a list), () if it tried and named nothing.
    - `candidates`: what a tool gave to the model; None for agents without a tool.
    - `extra`: the agent's own record (JSON types), stored with the turn.
    """

    text: str
    action: Action
    shown: tuple[Item, ...] = ()
    ranking: tuple[Item, ...] | None = None
    candidates: tuple[Item, ...] | None = None
    strategy: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


UserDecision = Literal["accept", "refuse", "answer"]
_DECISIONS = get_args(UserDecision)


@dataclass(frozen=True, slots=True)
class UserTurn:
    """A simulated user's message and decision.

    `feedback` maps item ids to the user's remark on each; `extra` is the simulator's own record
    (JSON types). The agent sees neither.
    """

    text: str
    decision: UserDecision
    accepted: Item | None = None
    leaves: bool = False
    feedback: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def usable_agent_turn(given: object, shown_items: int) -> AgentTurn:
    """What an agent gave, fit to be shown to others and stored; TypeError where it is not, and
    ValueError where it shows more than `shown_items`: more items are more chances of a success."""
    if not isinstance(given, AgentTurn):
        raise TypeError(f"expected an AgentTurn, found {type(given).__name__}")
    if given.action not in _ACTIONS:
        raise TypeError(f"action: expected one of {', '.join(_ACTIONS)}")
    return AgentTurn(
        _words(given.text, "text"),
        given.action,
        _shown(given.shown, shown_items),
        None if given.ranking is None else _items(given.ranking, "ranking"),
        None if given.candidates is None else _items(given.candidates, "candidates"),
        None if given.strategy is None else _words(given.strategy, "strategy"),
        json_form(_mapping(given.extra, "extra"), "extra"),
    )


def usable_user_turn(given: object) -> UserTurn:
    """The same for a simulated user."""
    if not isinstance(given, UserTurn):
        raise TypeError(f"expected a UserTurn, found {type(given).__name__}")
    if given.decision not in _DECISIONS:
        raise TypeError(f"decision: expected one of {', '.join(_DECISIONS)}")
    if given.accepted is not None:
        _items([given.accepted], "accepted")
    return UserTurn(
        _words(given.text, "text"),
        given.decision,
        given.accepted,
        bool(given.leaves),
        json_form(_mapping(given.feedback, "feedback"), "feedback"),
        json_form(_mapping(given.extra, "extra"), "extra"),
    )


def _shown(given: Iterable[Item], most: int) -> tuple[Item, ...]:
    found = _items(given, "shown")
    if len(found) > most:
        raise ValueError(f"shown: {len(found):,} items, but limits.shown_items is {most:,}")
    return found


def _words(given: object, field: str) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{field}: expected a string, found {type(given).__name__}")
    return repaired(given)


def _mapping(given: object, field: str) -> Mapping[str, Any]:
    if not isinstance(given, (dict, Mapping)):
        raise TypeError(f"{field}: expected a mapping, found {type(given).__name__}")
    return given


def _items(given: Iterable[Item], field: str) -> tuple[Item, ...]:
    items = tuple(given)
    for item in items:
        if not isinstance(item, Item):
            raise TypeError(f"{field}: expected items, found {type(item).__name__}")
    return items
