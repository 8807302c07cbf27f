"""The model calls of DESIRE, and the actions and strategies among which they choose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agents.core.decision_first import RESPOND
from agents.core.steps import ReplyModel, Step, Title, text

ExplorationAction = Literal[
    "contextual_probing",
    "pattern_suggesting",
    "preference_narrowing",
    "behavioral_reminder",
    "benefit_oriented_prompting",
]
"""Section 3.4.1."""

PersuasiveStrategy = Literal[
    "logical_appeal",
    "emotional_appeal",
    "framing",
    "evidence_based_persuasion",
    "social_proof",
    "anchoring",
]
"""Section 3.4.2."""

MOST_FACTS = 40  # facts that one prompt lists
PICKED_FACTS = 8  # facts that one reply selects
_SEARCHED = 8  # attribute values of one search


class Desire(ReplyModel):
    """The reasoning trace rt_t and the search attributes sa_t (eq. 6)."""

    dialogue: Annotated[
        str, text(300, "Summarise what the conversation says the user wants and does not want.")
    ]
    feedback: Annotated[
        str, text(300, "Say what the recommendations that were not accepted reveal.")
    ]
    desire: Annotated[
        str, text(400, "Weigh all signals and infer what the user desires, stated or not.")
    ]
    search: Annotated[
        list[Annotated[str, text(60)]],
        Field(
            max_length=_SEARCHED,
            description="List attribute values, most important first; [] for none.",
        ),
    ]


class _Evaluation(ReplyModel):
    reason: Annotated[str, text(200, "Give the reason for your decision in a few words.")]
    decision: Annotated[
        Literal["recommend", "explore"], Field(description="Choose what to do next.")
    ]


class _Exploration(ReplyModel):
    action: Annotated[ExplorationAction, Field(description="Choose the exploration action.")]
    guidance: Annotated[str, text(300, "Say what the next message should bring up and ask.")]


class _Inquiry(ReplyModel):
    message: Annotated[str, text(500, "Write your message to the user.")]


class _Selection(ReplyModel):
    titles: Annotated[
        list[Title],
        Field(
            max_length=10,
            description="List the titles, best first; [] if the facts support none.",
        ),
    ]


class _Persuasion(ReplyModel):
    facts: Annotated[
        list[Annotated[int, Field(ge=1, le=MOST_FACTS)]],
        Field(
            max_length=PICKED_FACTS,
            description="Give the numbers of the facts to use, strongest first.",
        ),
    ]
    strategy: Annotated[PersuasiveStrategy, Field(description="Choose the strategy.")]
    guidance: Annotated[str, text(300, "Say how the message should use these facts.")]


REASON = Step("reason", "extract", Desire)
EVALUATE = Step("evaluate", "decide", _Evaluation)
EXPLORE = Step("explore", "ask", _Exploration)
INQUIRE = Step("inquire", "ask", _Inquiry)
SELECT = Step("select", "rank", _Selection)
PERSUADE = Step("persuade", "choose", _Persuasion)
STEPS = (REASON, EVALUATE, EXPLORE, INQUIRE, SELECT, PERSUADE, RESPOND)
