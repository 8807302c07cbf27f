"""The signals of a user's desire (DESIRE, section 3.2.1 and Table 2), as prompts show them.

- S1, the dialogue, and the titles of S2, the long-term history: `common_fields`.
- S2 as a distribution over attribute values (section 3.2.2): `tastes`.
- S3, the retrieved items with their attributes: the prompt's `items`.
- S4, the feedback of this dialogue: `feedback`. An acceptance ends a dialogue, so what it holds is
  what was recommended and not accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from agents.core.agent import AgentContext
from agents.core.decision_first import DecisionFirstOptions, common_fields
from agents.core.dialogue import Dialogue
from agents.core.items import Item, facts_of

_TASTES = 15  # attribute values of the history that prompts show


class Taste(NamedTuple):
    """How many items of the user's history have an attribute value."""

    attribute: str
    value: str
    number: int


class Rejection(NamedTuple):
    """What was shown in one turn and not accepted."""

    turn: int
    items: tuple[Item, ...]


def signal_fields(
    context: AgentContext, dialogue: Dialogue, options: DecisionFirstOptions
) -> dict[str, Any]:
    """S1, S2 and S4 for a prompt."""
    history = context.case.history
    return {
        **common_fields(context, dialogue, options.history_items),
        "tastes": tastes(history, _TASTES),
        "history_size": len(history),
        "feedback": feedback(dialogue),
    }


def tastes(history: Sequence[Item], most: int) -> tuple[Taste, ...]:
    """The `most` attribute values that most items of `history` have, the most frequent first."""
    counts = Counter(fact for item in history for fact in dict.fromkeys(facts_of(item)))
    return tuple(Taste(f.attribute, f.value, n) for f, n in counts.most_common(most))


def feedback(dialogue: Dialogue) -> tuple[Rejection, ...]:
    """The rejections of this dialogue, of the turns that `history_turns` leaves in the prompts."""
    found = [
        Rejection(place // 2 + 1, said.shown)
        for place, (said, answer) in enumerate(pairwise(dialogue.whole))
        if said.shown and answer.speaker == "user"
    ]
    first = 0 if dialogue.history_turns is None else dialogue.turn - dialogue.history_turns
    return tuple(each for each in found if each.turn >= first)
