"""What the titles in a reply mean, and which of their items may be recommended.

All agents whose models name titles use `ground`, so that one rule holds for all of them: items of
the user's history and items shown earlier in the dialogue are dropped and counted, unless the
agent's option `repeat` allows both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue
from agents.core.items import Catalogue, Item


class Match(NamedTuple):
    """A title that is not exactly an item's own, and how it was matched (`grounding.How`)."""

    title: str
    item_id: str
    score: float
    how: str


class GroundedTitles(NamedTuple):
    """What named titles mean.

    `items` are distinct, in the order named, and may be recommended. `ungrounded` are the titles
    that mean none of the items to choose from; `from_history` and `shown_before` are items that
    were named and must not be recommended. `asked` is False if no model was asked because there
    were no candidates.
    """

    items: tuple[Item, ...] = ()
    matches: Sequence[Match] = ()
    ungrounded: Sequence[str] = ()
    from_history: tuple[Item, ...] = ()
    shown_before: tuple[Item, ...] = ()
    asked: bool = True

    @property
    def empty_reason(self) -> str | None:
        """Why `items` is empty; None if it is not. Several reasons are joined by "+"."""
        if self.items:
            return None
        if not self.asked:
            return "no_candidates"
        reasons = {
            "ungrounded": self.ungrounded,
            "history": self.from_history,
            "shown_before": self.shown_before,
        }
        return "+".join(name for name, found in reasons.items() if found) or "nothing_named"

    @property
    def misses(self) -> tuple[str, ...]:
        """What was named and cannot be recommended, with the reasons, for prompts."""
        return (
            *(f"{title}: not found" for title in self.ungrounded),
            *(f"{item.title}: already in the user's history" for item in self.from_history),
            *(f"{item.title}: already shown in this conversation" for item in self.shown_before),
        )

    def extra(self) -> dict[str, Any]:
        """For the turn's record."""
        found = {
            "titles_grounded": len(self.items),
            "titles_ungrounded": list(self.ungrounded),
            "titles_matched": [list(match) for match in self.matches],
            "titles_from_history": len(self.from_history),
            "titles_shown_before": len(self.shown_before),
        }
        reason = self.empty_reason
        return found if reason is None else {**found, "empty_reason": reason}


def ground(
    titles: Iterable[str],
    context: AgentContext,
    dialogue: Dialogue,
    *,
    repeat: bool = False,
    among: Sequence[Item] | None = None,
) -> GroundedTitles:
    """The items to recommend that `titles` mean; an item named twice counts once.

    With `repeat`, items of the history and items shown before may be recommended again. `among` are
    the items to choose from, if not the whole catalogue.
    """
    named = ground_mentions(titles, context.catalogue, among=among)
    if repeat:
        return named
    history = {item.id for item in context.case.history}
    shown = {item.id for message in dialogue.whole for item in message.shown}
    found, ungrounded = list(named.items), list(named.ungrounded)
    if among is not None:  # candidates leave out what must not be recommended; that was named, too
        elsewhere = {t: ground_mentions([t], context.catalogue).items for t in ungrounded}
        dropped = {t: items for t, items in elsewhere.items() if _ids(items) & (history | shown)}
        ungrounded = [title for title in ungrounded if title not in dropped]
        found += {item.id: item for items in dropped.values() for item in items}.values()
    return named._replace(
        items=tuple(i for i in found if i.id not in history and i.id not in shown),
        ungrounded=ungrounded,
        from_history=tuple(i for i in found if i.id in history),
        shown_before=tuple(i for i in found if i.id in shown and i.id not in history),
    )


def _ids(items: Iterable[Item]) -> set[str]:
    return {item.id for item in items}


def ground_mentions(
    titles: Iterable[str], catalogue: Catalogue, *, among: Sequence[Item] | None = None
) -> GroundedTitles:
    """The items that `titles` mean, whether or not they may be recommended."""
    places = None if among is None else {catalogue.position[item.id] for item in among}
    items: dict[str, Item] = {}
    matches: list[Match] = []
    ungrounded: list[str] = []
    for title in titles:
        found = catalogue.titles.ground(title, places)
        if found is None:
            ungrounded.append(title)
            continue
        item = catalogue.items[found.place]
        items.setdefault(item.id, item)
        if found.how != "title":
            matches.append(Match(title, item.id, found.score, found.how))
    return GroundedTitles(tuple(items.values()), matches, ungrounded)
