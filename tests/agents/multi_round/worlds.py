"""Small worlds of the multi-round setting, and dialogues of them with the real user."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core import plugins
from agents.core.agent import Agent, AgentContext
from agents.core.artifacts import Content, FitRecipe
from agents.core.ask import Ask, CallLog
from agents.core.items import Catalogue, Interactions, Item, Pairs, TrainingData
from agents.core.prompts import PromptFolder
from agents.core.seeds import call_seed
from agents.multi_round.space import AttributeSpace
from agents.multi_round.vectors import Vectors
from simulators.core.cases import Domain
from simulators.core.dialogue import DialogueLimits, Transcript, run_dialogue
from simulators.core.user import UserContext
from simulators.success.target_in_shown import target_in_shown
from simulators.users.attribute_user import AttributeUser

NO_PROMPTS = PromptFolder(Path("no/prompts"))

TAGS = [["a", "b"], ["a", "c"], ["a", "b", "c"], ["b"], ["c", "d"]]
"""Of five items."""
A, B, C, D = range(4)
ONE = np.zeros(1, np.int64)
"""The row of a single dialogue."""


def marks(*places: int) -> np.ndarray:
    """Facts at `places` of `TAGS`, of a single dialogue: a mask of shape (1, 4)."""
    found = np.zeros((1, 4), bool)
    found[0, list(places)] = True
    return found


def catalogue_of(facts: Sequence[Sequence[str]], **given: Any) -> Catalogue:
    """An item for each list of tags."""
    items = [
        Item(str(place), f"Band {place}", {"tag": tuple(tags)} if tags else {})
        for place, tags in enumerate(facts)
    ]
    return Catalogue(items, noun="music artist", **given)


def vectors_for(space: AttributeSpace, users: int = 3, width: int = 4, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    items, facts = space.has.shape
    tables = {
        name: rng.standard_normal((rows, width)).astype(np.float32)
        for name, rows in (("users", users), ("items", items), ("facts", facts))
    }
    places = {f"u{user}": user for user in range(users)}
    return Vectors(**tables, user_places=places, has=space.has.astype(np.float32))


def data_of(catalogue: Catalogue, pairs: Sequence[tuple[int, int]], targets: Pairs) -> TrainingData:
    """Training data of interactions (user, item)."""
    ordered = sorted(pairs)
    users = np.array([user for user, _ in ordered], np.int32)
    items = np.array([item for _, item in ordered], np.int32)
    names = tuple(f"u{user}" for user in range(int(users.max()) + 1))
    events = Interactions(names, users, items, np.arange(len(users)))
    held = np.full(len(names), -1, np.int32)
    return TrainingData(len(catalogue), events, held, catalogue, targets)


def result_of(recipe: FitRecipe, data: TrainingData, seed: int = 0) -> Content:
    *_, last = recipe.fit(data, seed)
    assert last.result is not None
    return last.result


def asking(role: str, scope: str, seed: int) -> Ask:
    def no_model(role: str) -> Any:
        raise AssertionError(f"{role} asks a model")

    return Ask(role, scope, seed, NO_PROMPTS, no_model, CallLog())


def dialogue(
    name: str,
    domain: Domain,
    case_id: str,
    artifacts: Mapping[str, Any],
    *,
    seed: int = 0,
    turns: int = 15,
    shown: int = 10,
    **options: Any,
) -> Transcript:
    """One dialogue of an agent with `attribute_user`."""
    case = domain.case("test", case_id)
    cls: type[Agent] = plugins.load("agents", name, "agent")
    context = AgentContext(domain.catalogue, case.visible, shown, artifacts)
    agent = cls(plugins.build_options(cls.Options, options), context)
    patient: Any = plugins.build_options(AttributeUser.Options, {})
    user = AttributeUser(patient, UserContext(domain.catalogue, case))
    transcript = Transcript()
    asyncio.run(
        run_dialogue(
            agent,
            user,
            asking("agent", case_id, seed),
            asking("user", case_id, seed),
            hidden=case.hidden,
            limits=DialogueLimits(turns, 10**6),
            is_success=target_in_shown,
            probe=False,
            transcript=transcript,
        )
    )
    return transcript


def opening_draws(case_ids: Sequence[str], seed: int) -> np.ndarray:
    """What `attribute_user` draws to open with."""
    return np.array([call_seed(seed, c, "user", "open", 0, 0, 0) for c in case_ids])


def decision_draws(case_ids: Sequence[str], seed: int, turn: int) -> np.ndarray:
    """What the agents draw in a turn."""
    return np.array([call_seed(seed, c, "agent", "decide", turn, 0, 0) for c in case_ids]) / 2**48
