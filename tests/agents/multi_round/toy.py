"""A world whose best policy is known: two attributes split the items exactly.

16 artists, one for each pair of a mood and a place (four each); all are of one kind. A question is
about one attribute, and one item is shown a turn. The user opens with one of the three facts of the
target. Who then asks about the mood or the place, as far as it is not known, and never about the
kind, can show the one item that is left: in turn 3 after an opening with the kind, else in turn 2.
With three turns, that reaches all users, and nothing else does: SR@3 is 1, and the average is 7/3
turns. Vectors are random, so that nothing can be learned of taste.
"""

from __future__ import annotations

import numpy as np

from agents.core.items import Catalogue, Interactions, Item, Pairs, TrainingData
from agents.multi_round.practice import DialogueRules, Practice
from agents.multi_round.rounds import Outcomes
from agents.multi_round.space import AttributeSpace
from tests.agents.multi_round.worlds import vectors_for

SIDE, TURNS, SHOWN = 4, 3, 1
BEST_SUCCESS, BEST_TURNS = 1.0, 7 / 3
OPTIONS = {"questions": "enumerated", "turns": TURNS, "shown": SHOWN, "repeat": True}


def toy_data(users: int = 8) -> TrainingData:
    """Every user wants any item."""
    items = [
        Item(f"{m}-{p}", f"Band {m} {p}", {"kind": ("band",), "mood": (m,), "place": (p,)})
        for m in (f"m{m}" for m in range(SIDE))
        for p in (f"p{p}" for p in range(SIDE))
    ]
    names = tuple(f"u{user}" for user in range(users))
    had = np.arange(users) % len(items)
    events = Interactions(names, np.arange(users), had, np.zeros(users, np.int64))
    pairs = [(user, item) for user in range(users) for item in range(len(items))]
    wanted = Pairs(np.array([u for u, _ in pairs]), np.array([i for _, i in pairs]))
    catalogue = Catalogue(items, noun="music artist")
    return TrainingData(len(items), events, np.full(users, -1), catalogue, wanted)


def toy(seed: int = 0) -> Practice:
    data = toy_data()
    assert data.catalogue is not None
    vectors = vectors_for(AttributeSpace.of(data.catalogue), users=8, width=8, seed=seed)
    return Practice(
        data, vectors, DialogueRules(TURNS, SHOWN, "enumerated", repeat=True, exclude=False)
    )


def share_of_best(found: Outcomes) -> float:
    """The smaller of the shares that success and turns reach of the best policy's."""
    return min(found.success(TURNS) / BEST_SUCCESS, BEST_TURNS / found.average_turns(TURNS))
