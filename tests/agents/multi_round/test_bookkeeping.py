"""`Rounds` narrows and counts all dialogues at once, and scores late. This file does the same one
dialogue at a time, at once, and expects the same bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.core.items import Fact
from agents.multi_round.rounds import NO_ITEM, Rounds, top
from agents.multi_round.space import AttributeSpace
from tests.agents.multi_round import worlds

ITEMS, FACTS, DIALOGUES, SHOWN, TURNS = 40, 6, 5, 3, 12


class Plain:
    """One dialogue."""

    def __init__(self, rounds: Rounds, row: int, allowed: np.ndarray, base: np.ndarray) -> None:
        self.vectors, self.has = rounds.vectors, rounds.space.has
        self.exclude = rounds.exclude
        self.user = rounds.users[row].copy()
        self.accepted, self.refused = (np.zeros(FACTS, bool) for _ in range(2))
        self.allowed = allowed.copy()
        self.items = np.flatnonzero(allowed)
        self.scores = base[self.items]

    def learn(self, liked: np.ndarray, disliked: np.ndarray) -> None:
        new = liked & ~self.accepted
        self.accepted |= new
        no = disliked & ~self.refused & ~self.accepted
        self.refused |= no
        for fact in np.flatnonzero(new):
            self.keep(self.has[self.items, fact])
            self.scores = self.scores + self.vectors.facts_items[fact, self.items]
        for fact in np.flatnonzero(no):
            if self.exclude:
                self.keep(~self.has[self.items, fact])
            self.scores = self.scores - self.vectors.penalties[fact, self.items]

    def keep(self, kept: np.ndarray) -> None:
        if kept.any():
            self.items, self.scores = self.items[kept], self.scores[kept]

    def refuse(self, items: np.ndarray) -> None:
        self.allowed[items[items != NO_ITEM]] = False
        kept = self.allowed[self.items]
        self.items, self.scores = self.items[kept], self.scores[kept]
        if not len(self.items):
            self.items = np.flatnonzero(self.allowed)
            found = self.vectors.items[self.items] @ self.user
            found += self.vectors.facts_items[self.accepted][:, self.items].sum(axis=0)
            found -= self.vectors.penalties[self.refused][:, self.items].sum(axis=0)
            self.scores = found.astype(np.float32)

    def move(self, step: np.ndarray) -> None:
        self.user = self.user + step
        self.scores = self.scores + self.vectors.items[self.items] @ step


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exclude=st.booleans(), looks=st.booleans())
def test_all_at_once_gives_the_bits_of_one_at_a_time(seed, exclude, looks):
    rng = np.random.default_rng(seed)
    tags = [[f"t{f}" for f in range(FACTS) if rng.random() < 0.4] for _ in range(ITEMS)]
    tags[0] = [f"t{f}" for f in range(FACTS)]
    space = AttributeSpace.of(worlds.catalogue_of(tags))
    vectors = worlds.vectors_for(space, users=DIALOGUES, seed=seed % 1000)
    allowed = rng.random((DIALOGUES, ITEMS)) < 0.8
    rounds = Rounds(space, vectors, vectors.users, allowed, TURNS, exclude=exclude)
    base = (vectors.users @ vectors.items.T).astype(np.float32)
    plain = [Plain(rounds, row, allowed[row], base[row]) for row in range(DIALOGUES)]
    for _ in range(TURNS):
        rows = np.flatnonzero(rng.random(DIALOGUES) < 0.7)
        if rng.random() < 0.6:
            liked = rng.random((len(rows), FACTS)) < 0.2
            disliked = (rng.random((len(rows), FACTS)) < 0.2) & ~liked
            rounds.answer(rows, rng.integers(FACTS, size=len(rows)), liked, disliked)
            for row, yes, no in zip(rows, liked, disliked, strict=True):
                plain[row].learn(yes, no)
        else:
            items = rounds.best(rows, SHOWN)
            step = rng.standard_normal((len(rows), 4)).astype(np.float32) / 8
            rounds.move_users(rows, step)
            rounds.refuse(rows, items)
            for place, row in enumerate(rows):
                plain[row].move(step[place])
                plain[row].refuse(items[place])
        if looks:
            agree(rounds, plain)
    agree(rounds, plain)


def agree(rounds: Rounds, plain: list[Plain]) -> None:
    rows = np.arange(DIALOGUES)
    best = rounds.best(rows, SHOWN)
    for row, one in enumerate(plain):
        assert rounds.candidates(row).tolist() == one.items.tolist()
        assert rounds.scores(row).tobytes() == one.scores.tobytes()
        wanted = one.items[top(one.scores, SHOWN)].tolist()
        assert best[row].tolist() == wanted + [NO_ITEM] * (SHOWN - len(wanted))
        share = one.has[one.items].sum(axis=0) / np.float32(max(len(one.items), 1))
        assert rounds.shares(rows)[row].tobytes() == share.astype(np.float32).tobytes()
    assert rounds.left(rows).tolist() == [len(one.items) for one in plain]


def test_the_highest_value_of_each_question_is_over_its_own_facts():
    facets = {Fact("tag", "a"): "x", Fact("tag", "b"): "y", Fact("tag", "c"): "x"}
    catalogue = worlds.catalogue_of([["a", "b"], ["c"]], facets=facets)
    space = AttributeSpace.of(catalogue, "enumerated")
    values = np.array([[1, 5, 3], [4, 2, -1]])
    assert space.highest(values).tolist() == [[3, 5], [4, 2]]
