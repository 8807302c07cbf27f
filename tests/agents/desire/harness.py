"""A small world for DESIRE: eight artists with tags and nothing else, as LastFM has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agents.core.agent import AgentContext
from agents.core.calls import Call
from agents.core.dialogue import Dialogue, Message
from agents.core.items import Catalogue, Item, VisibleCase
from agents.desire import DESIRE
from tests.agents.in_place import FIRST_IS_BEST, in_place
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, by_step, make_ask

PROMPTS = prompts_of("agents", "desire")
TAGS = (
    ("rock",),
    ("rock", "indie"),
    ("rock", "indie", "calm"),
    ("rock", "calm"),
    ("jazz",),
    ("jazz", "calm"),
    ("pop",),
    ("pop", "indie"),
)
ARTISTS = tuple(Item(str(n), f"Artist number {n}", {"tag": tags}) for n, tags in enumerate(TAGS))
CATALOGUE = Catalogue(ARTISTS, noun="artist")
OPENING = Message("user", "Something with jazz.")
REJECTED = (
    OPENING,
    Message("recommender", "How about this?", ARTISTS[4:5]),
    Message("user", "No, something calm."),
)


def replies(
    *search: str,
    decision: str = "recommend",
    titles: tuple[str, ...] = (),
    facts: tuple[int, ...] = (1,),
    **changes: Any,
) -> dict[str, Any]:
    """Replies of every step; `changes` replace those of a step."""
    usual = {
        "reason": {
            "dialogue": "The summary of the dialogue.",
            "feedback": "The summary of the feedback.",
            "desire": "The inferred desire.",
            "search": list(search),
        },
        "evaluate": {"reason": "Because.", "decision": decision},
        "explore": {"action": "preference_narrowing", "guidance": "The exploring guidance."},
        "inquire": {"message": "What is missing?"},
        "select": {"titles": list(titles)},
        "persuade": {
            "facts": list(facts),
            "strategy": "social_proof",
            "guidance": "The persuading guidance.",
        },
        "respond": {"response": "Here you are."},
    }
    return {**usual, **changes}


def agent_of(*, history: tuple[Item, ...] = ARTISTS[6:7], **options: Any) -> DESIRE:
    checked = DESIRE.Options(recommender=FIRST_IS_BEST, **options)
    artifacts = {"recommender": in_place(len(ARTISTS))}
    return DESIRE(checked, AgentContext(CATALOGUE, VisibleCase("u1", history), 3, artifacts))


def answered(
    agent: DESIRE,
    given: dict[str, Any] | Callable[[Call], Any],
    *said: Message,
    probe: bool = False,
    latest: int | None = None,
):
    """The agent's turn after `said`, its calls, and what a probe would recommend."""
    model = FakeModel(given if callable(given) else by_step(**given))
    ask = make_ask(model, PROMPTS)
    dialogue = Dialogue(list(said or (OPENING,)), latest)

    async def once():
        turn = await agent.respond(dialogue, ask)
        return turn, await agent.would_recommend(dialogue, ask.probing()) if probe else None

    turn, would = asyncio.run(once())
    return turn, model.calls, would


def ids(items) -> list[str]:
    return [item.id for item in items]


def steps(calls) -> list[str]:
    return [call.step.name for call in calls]


def call_of(calls, step: str):
    [found] = (call for call in calls if call.step.name == step)
    return found


def prompt(calls, step: str) -> str:
    return call_of(calls, step).messages[0].content
