"""A small world: eight films, a tree built by known replies, and agents in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from agents.af_irs import AFIRS
from agents.af_irs.tree import PreferenceTree, Tree
from agents.core import plugins
from agents.core.agent import AgentContext
from agents.core.artifacts import Content, FitRecipe
from agents.core.ask import CallLog
from agents.core.calls import Call, Completion
from agents.core.dialogue import Dialogue, Message
from agents.core.items import Catalogue, Interactions, Item, TrainingData, VisibleCase
from agents.core.prompts import prompt_folder
from tests.fakes import FakeModel, make_ask
from workers.backends.core.replies import fill
from workers.backends.rules.answers import Rules
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView

PROMPTS = prompt_folder(plugins.module("agents", "af_irs", "agent"), None)
RECOMMENDER = "tests.agents.af_irs.lined_up"


def film(number: int, *genres: str, mood: str = "") -> Item:
    attributes = {"genre": genres} if genres else {}
    return Item(str(number), f"Film {number}", attributes | ({"mood": (mood,)} if mood else {}))


FILMS = Catalogue(
    [
        film(0, "Action", mood="calm"),
        film(1, "Action", mood="tense"),
        film(2, "Action", "Drama", mood="tense"),
        film(3, "Action", "Drama", mood="calm"),
        film(4, "Drama", mood="calm"),
        film(5, "Drama", mood="tense"),
        film(6, "Western"),
        film(7),
    ],
    noun="film",
)
# Attributes in their order: 1 Action 0-3, 2 Drama 2-5, 3 Western 6, 4 calm 0 3 4, 5 tense 1 2 5.
GENRE, MOOD = "Genre", "Mood"
CATEGORIES = {
    "groups": [
        {"category": GENRE, "subcategory": "Loud", "numbers": [1, 3]},
        {"category": GENRE, "subcategory": "Quiet", "numbers": [2]},
        {"category": MOOD, "subcategory": "Moods", "numbers": [4, 5]},
    ]
}
ACTION = {"groups": [{"name": "Heist", "numbers": [1, 2]}, {"name": "Chase", "numbers": [3, 4]}]}
DRAMA = {"groups": [{"name": "Family", "numbers": [1, 2]}, {"name": "Court", "numbers": [3, 4]}]}
# Films at the finer nodes: Heist 0 1, Chase 2 3, Family 2 3, Court 4 5.
RECIPE = PreferenceTree(
    batch_attributes=40, batch_items=40, smallest=4, attributes=None, most_values=500
)


def tree_replies(call: Call) -> Any:
    if call.step.name == "categorise":
        return CATEGORIES
    return {"Action": ACTION, "Drama": DRAMA}[call.fields["attribute"].value]


class RulesModel:
    """The generic rules as a model."""

    name, identity, wants_shown, guided, greedy = "rules", "{}", True, True, False

    def __init__(self, catalogue: Catalogue) -> None:
        self._rules = Rules(Knowledge(catalogue, 1.0))

    async def complete(self, call: Call) -> Completion:
        answer = self._rules.answer(call.step.kind, PromptView(call), call.seed)
        return Completion(fill(call.step.schema, answer), "stop", 10, 5)


def built(recipe: PreferenceTree, catalogue: Catalogue, model: Any, report=None) -> Content:
    ask = make_ask(model, PROMPTS, role="agent.tree")
    return asyncio.run(recipe.build(catalogue, ask, report or (lambda done, most: None)))


def fitted(recipe: FitRecipe, data: TrainingData) -> Content:
    [*_, last] = recipe.fit(data, 0)
    assert last.result is not None
    return last.result


def no_events(catalogue: Catalogue) -> TrainingData:
    none = np.empty(0, np.int64)
    return TrainingData(len(catalogue), Interactions((), none, none, none), none)


TREE: Tree = RECIPE.load(built(RECIPE, FILMS, FakeModel(tree_replies)), FILMS)


def node(*path: str, tree: Tree = TREE) -> int:
    return next(n for n in range(len(tree.names)) if tree.path(n) == path)


def items_of(tree: Tree, number: int) -> set[int]:
    return set(np.flatnonzero(tree.mask(number)).tolist())


def agent_of(
    catalogue: Catalogue = FILMS,
    *,
    tree: Tree = TREE,
    history: tuple[Item, ...] = (),
    shown_items: int = 3,
    data: TrainingData | None = None,
    **options: Any,
) -> AFIRS:
    checked = AFIRS.Options.model_validate({"recommender": RECOMMENDER, **options})
    recipe = AFIRS.needs(checked)["recommender"]
    assert isinstance(recipe, FitRecipe)
    recommender = recipe.load(fitted(recipe, data or no_events(catalogue)), catalogue)
    artifacts: Mapping[str, Any] = {"recommender": recommender, "tree": tree}
    case = VisibleCase("u1", history)
    return AFIRS(checked, AgentContext(catalogue, case, shown_items, artifacts))


def answered(agent: AFIRS, reply: Callable[[Call], Any], *messages: Message, probe: bool = False):
    """The agent's turn after `messages`, and the calls that it made."""
    model = FakeModel(reply)
    ask = make_ask(model, PROMPTS, journal=CallLog())
    dialogue = Dialogue(list(messages))

    async def play():
        turn = await agent.respond(dialogue, ask)
        return (turn, await agent.would_recommend(dialogue, ask.probing())) if probe else turn

    return asyncio.run(play()), model.calls
