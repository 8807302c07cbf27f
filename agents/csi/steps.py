"""The model calls of CSI, and its actions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from agents.core.sales import SELL, PriceRange
from agents.core.steps import ReplyModel, Step, text

SalesAction = Literal["persuasion", "item_suggestion", "category_narrowing", "preference_probing"]
"""Table 6. The paper's prompt calls the third one Category Search and the second Suggestion."""

_ALIASES = {"category_search": "category_narrowing", "suggestion": "item_suggestion"}


def action_of(name: object) -> object:
    """The action that is called `name` in Table 6, in Table 14, or in the released dialogues."""
    if not isinstance(name, str):
        return name
    plain = "_".join(name.lower().split())
    return _ALIASES.get(plain, plain)


_Thoughts = Annotated[
    str,
    text(500, "Analyse what the user wants now, what is still unknown, and what to do next."),
]
_Action = Annotated[
    SalesAction, BeforeValidator(action_of), Field(description="Choose the next action.")
]
_Preference = Annotated[
    str, text(500, "Summarise the user's style, preferences and further requirements.")
]
_CategoryPath = Annotated[
    list[Annotated[str, text(100)]],
    Field(
        max_length=10,
        description="Give the category path that the user has confirmed so far, broadest first; [] "
        "if none is known.",
    ),
]
_Personality = Annotated[
    str, text(300, "Infer the user's personality, way of communicating, and current focus.")
]
_Selected = Annotated[
    list[Annotated[str, text(200)]],
    Field(
        max_length=1,
        description="Give the ID of the item that the user is interested in; [] for none.",
    ),
]


def one_line(text: str) -> str:
    """What a model wrote, as prompts show it: a second line could pass for the user's."""
    return " ".join(text.split())


class Profile(ReplyModel):
    """The contextual profile P_t (section 3.1 and Table 14)."""

    preference: _Preference
    category_path: _CategoryPath
    personality: _Personality
    price_range: PriceRange
    selected_item: _Selected

    def lines(self) -> tuple[str, ...]:
        """A line for each part, for prompts."""
        parts = (
            f"preference: {self.preference}",
            f"category path: {' > '.join(self.category_path) or 'unknown'}",
            f"personality: {self.personality}",
            f"expected price range: {' to '.join(map(str, self.price_range)) or 'unknown'}",
            f"item of interest: {''.join(self.selected_item) or 'unknown'}",
        )
        return tuple(map(one_line, parts))


class ThoughtsFirst(ReplyModel):
    """Thoughts, profile and action in one reply (Table 14)."""

    thoughts: _Thoughts
    preference: _Preference
    category_path: _CategoryPath
    personality: _Personality
    price_range: PriceRange
    selected_item: _Selected
    action: _Action


class Thought(ReplyModel):
    """h_t and a_t (section 3.1)."""

    thoughts: _Thoughts
    action: _Action


class ThoughtAndBudget(ReplyModel):
    """What the variant without a profile writes (C.1.2)."""

    thoughts: _Thoughts
    price_range: PriceRange
    action: _Action


class _Message(ReplyModel):
    message: Annotated[str, text(500, "Write your message to the user.")]


class _Sentence(ReplyModel):
    sentence: Annotated[str, text(800, "Write your message to the user, using this strategy.")]


PLAN = Step("plan", "decide", ThoughtsFirst)
PROFILE = Step("profile", "extract", Profile)
THINK = Step("think", "decide", Thought)
REACT = Step("react", "decide", ThoughtAndBudget)
PROBE = Step("probe", "ask", _Message)
NARROW = Step("narrow", "ask", _Message)
SELL_BY = Step("sell_by", "verbalise", _Sentence)
STEPS = (PLAN, PROFILE, THINK, REACT, PROBE, NARROW, SELL)
