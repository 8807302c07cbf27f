"""Training dialogues: many at once, with users in numpy, drawn from the split `train`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from agents.core.errors import DataError
from agents.core.items import TrainingData
from agents.multi_round.policy import Policy
from agents.multi_round.rounds import (
    ASK_YES,
    REC_YES,
    Decisions,
    Outcomes,
    Rounds,
    Users,
)
from agents.multi_round.space import AttributeSpace, Form
from agents.multi_round.vectors import Vectors
from agents.recommenders.core import histories

_DRAWS = 2**32
_AT_ONCE = 256


class DialogueRules(NamedTuple):
    """The settings of a training dialogue."""

    turns: int
    shown: int
    form: Form
    repeat: bool
    exclude: bool


class Rewards(NamedTuple):
    """The rewards of a turn. `quit` is added in the last turn of a dialogue without success."""

    ask_yes: float
    ask_no: float
    rec_yes: float
    rec_no: float
    quit: float

    def of(self, outcomes: np.ndarray, is_last: bool) -> np.ndarray:
        """(n,), float32."""
        table = {2: self.rec_yes, 1: self.ask_yes, -1: self.ask_no, -2: self.rec_no}
        found = np.select([outcomes == code for code in table], list(table.values()))
        return (found + (self.quit * (outcomes != REC_YES) if is_last else 0)).astype(np.float32)


@dataclass
class Clock:
    """Seconds spent in each part: `user`, `state`, `network`, `replay` and `feedback`.

    This is wall-clock time: reading the CPU time takes longer than some of the parts."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent[part] += time.perf_counter() - began


class PlayedTurn(NamedTuple):
    """What happened in one turn of the dialogues `rows`."""

    rows: np.ndarray
    decided: Decisions
    outcomes: np.ndarray
    rewards: np.ndarray
    over: np.ndarray
    """(rows,): whether the dialogue ended with this turn."""


class Practice:
    """Starts training dialogues. DataError if there is nothing to train on."""

    def __init__(self, data: TrainingData, vectors: Vectors, rules: DialogueRules) -> None:
        if data.catalogue is None or data.dialogues is None or not len(data.dialogues):
            raise DataError("a policy cannot be trained: no user of the split `train` has a target")
        self.rules, self.vectors = rules, vectors
        self.space = AttributeSpace.of(data.catalogue, rules.form)
        # Users can only open with a fact; a target without one cannot be asked for.
        known = self.space.has[data.dialogues.items].any(axis=1)
        self.users, self.targets = data.dialogues.users[known], data.dialogues.items[known]
        if not len(self.users):
            raise DataError("a policy cannot be trained: no target of `train` has an attribute")
        had = histories(data)
        longest = max((len(items) for items in had), default=0)
        self._had = np.full((len(had), longest), -1, np.int64)
        for row, items in zip(self._had, had, strict=True):
            row[: len(items)] = items

    def deal(self, rng: np.random.Generator, n: int) -> tuple[Rounds, Users, np.ndarray]:
        """`n` new dialogues of random pairs of a user and a target, their users, and the random
        numbers that choose the users' openings."""
        chosen = rng.integers(len(self.users), size=n)
        return (*self.of(self.users[chosen], self.targets[chosen]), rng.integers(_DRAWS, size=n))

    def of(self, users: np.ndarray, targets: np.ndarray) -> tuple[Rounds, Users]:
        """New dialogues of these pairs, and their users."""
        had = self._had[users]
        allowed = np.ones((len(users), len(self.space.has)), bool)
        if not self.rules.repeat:
            rows, columns = np.nonzero(had >= 0)
            allowed[rows, had[rows, columns]] = False
            # If the history contains the target too, it must stay: otherwise no dialogue succeeds.
            allowed[np.arange(len(users)), targets] = True
        rounds = Rounds(
            self.space,
            self.vectors,
            self.vectors.users[users],
            allowed,
            self.rules.turns,
            exclude=self.rules.exclude,
            histories=had,
        )
        return rounds, Users(self.space, targets)

    def evaluate(
        self, policy: Policy, users: np.ndarray, targets: np.ndarray, seed: int
    ) -> Outcomes:
        """The outcomes of a policy's dialogues with these pairs."""
        rng = np.random.default_rng([seed, len(users)])
        found: list[Outcomes] = []
        for start in range(0, len(users), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rounds, people = self.of(users[part], targets[part])
            draws = rng.integers(_DRAWS, size=len(rounds))
            game = Game(self, rounds, people, draws, Rewards(0, 0, 0, 0, 0), Clock())
            policy.begin(rounds)
            while len(rows := game.rows):
                dice = rng.random(len(rows))
                game.play(policy.decide(rounds, rows, dice, self.rules.shown))
            found.append(Outcomes(game.won, game.places))
        return Outcomes(
            np.concatenate([one.turns for one in found]),
            np.concatenate([one.places for one in found]),
        )


class Game:
    """Dialogues under way: `play` takes the decisions for `rows` until there are no rows."""

    def __init__(
        self,
        practice: Practice,
        rounds: Rounds,
        users: Users,
        draws: np.ndarray,
        rewards: Rewards,
        clock: Clock,
    ) -> None:
        self.rules, self.rounds, self.users = practice.rules, rounds, users
        self.rewards, self.clock = rewards, clock
        self.turn = 0
        self.won = np.zeros(len(rounds), np.int64)
        self.places = np.zeros(len(rounds), np.int64)
        with clock.on("user"):
            liked = users.opening(draws)
        with clock.on("state"):
            rounds.learn(np.arange(len(rounds)), liked, np.zeros_like(liked))

    @property
    def rows(self) -> np.ndarray:
        """The dialogues that are not over."""
        if self.turn >= self.rules.turns:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.won == 0)

    def play(self, decided: Decisions) -> PlayedTurn:
        """One turn."""
        rows = self.rows
        self.turn += 1
        is_last = self.turn == self.rules.turns
        asks, items = decided.questions >= 0, decided.items[:, : self.rules.shown]
        with self.clock.on("user"):
            found = np.where(asks, 0, self.users.places(rows, items))
            liked, disliked = self.users.answers(rows, np.maximum(decided.questions, 0))
        outcomes = np.where(
            asks, np.where(liked.any(axis=1), ASK_YES, -1), np.where(found > 0, REC_YES, -2)
        )
        hit = found > 0
        self.won[rows[hit]], self.places[rows[hit]] = self.turn, found[hit]
        with self.clock.on("state"):
            self.rounds.answer(rows[asks], decided.questions[asks], liked[asks], disliked[asks])
            failed = ~asks & ~hit
            self.rounds.refuse(rows[failed], items[failed])
            self.rounds.end_turn(rows[hit], np.full(int(hit.sum()), REC_YES))
        over = hit | is_last
        return PlayedTurn(rows, decided, outcomes, self.rewards.of(outcomes, is_last), over)
