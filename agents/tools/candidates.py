"""Candidates: what a recommender hands to a model to pick from (AF-IRS, sections 5.1.5, 5.4.2)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.decision_first import (
    RECOMMEND,
    DecisionFirst,
    DecisionFirstOptions,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Item
from agents.recommenders.core import Recommender, RecommenderRef, best, pool, positions
from agents.tools.query import CatalogueQuery, QueryRefused


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a query, in words for the model."""

    outcome: Literal["selected", "empty", "refused"]
    text: str


class CandidatePool:
    """The items that may be recommended in one turn: tools narrow it, none widens it.

    It starts as `agents.recommenders.core.pool`. InteRecAgent calls it the candidate bus.
    """

    def __init__(self, context: AgentContext, dialogue: Dialogue, *, repeat: bool) -> None:
        self._catalogue = context.catalogue
        self._open = pool(context, dialogue, repeat)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._open))

    async def query(self, tool: CatalogueQuery, sql: str) -> Observation:
        """Keeps what `sql` selects. Where that is nothing, or refused, the pool stays as it is."""
        found = await tool.select(sql)
        if isinstance(found, QueryRefused):
            return Observation("refused", f"The query was refused: {found.reason}.")
        selected = np.zeros_like(self._open)
        selected[[self._catalogue.position[item_id] for item_id in found]] = True
        kept = self._open & selected
        if not kept.any():
            text = f"The query selects {len(found)} items, none of them a candidate."
            return Observation("empty", f"{text} The candidates stay as they were.")
        self._open = kept
        return Observation("selected", f"The query leaves {len(self)} candidates.")

    def keep_best(self, values: np.ndarray, k: int) -> None:
        """Keeps the `k` of the highest `values` (items,)."""
        kept = best(values, k, among=self._open)
        self._open = np.zeros_like(self._open)
        self._open[kept] = True

    def best(self, values: np.ndarray, k: int) -> tuple[Item, ...]:
        """The at most `k` of the highest `values` (items,), best first."""
        return tuple(self._catalogue.items[i] for i in best(values, k, among=self._open))


def count_outcomes(observations: Iterable[Observation]) -> dict[str, int]:
    """For the turn's record."""
    outcomes = [observation.outcome for observation in observations]
    return {f"queries_{name}": outcomes.count(name) for name in ("selected", "empty", "refused")}


class CandidateOptions(DecisionFirstOptions):
    recommender: RecommenderRef = Field(
        default_factory=lambda: RecommenderRef.model_validate("item_knn")
    )
    candidates: Annotated[int, Field(ge=1, le=500)] = 50
    """At most so many candidates are handed to the model (section 5.1.5)."""


class PicksFromCandidates(DecisionFirst):
    """Decides with the help of tools; to recommend, the model picks from the tools' candidates."""

    Options = CandidateOptions

    def __init__(self, options: CandidateOptions, context: AgentContext) -> None:
        super().__init__(options, context)
        self.most = options.candidates
        self.recommender: Recommender = context.artifacts["recommender"]
        self._handed: tuple[Item, ...] | None = None

    @classmethod
    def needs(cls, options: CandidateOptions) -> Mapping[str, Recipe]:
        return {"recommender": options.recommender.recipe()}

    async def hand_over(self, dialogue: Dialogue) -> tuple[Item, ...]:
        """The candidates of this turn, best first; called after the decision, without a model.

        By default the recommender's best for the user's history, whatever was said.
        """
        return self.open_pool(dialogue).best(self.taste, self.most)

    @abstractmethod
    def record(self) -> tuple[str, dict[str, Any]]:
        """This turn's strategy, and its record."""

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        self._handed = None
        turn = await super().respond(dialogue, ask)
        strategy, extra = self.record()
        extra = {**turn.extra, **extra}
        return replace(turn, candidates=self._handed, strategy=strategy, extra=extra)

    async def name_items(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        self._handed = await self.hand_over(dialogue)
        return await self.pick(self._handed, dialogue, ask)

    async def pick(
        self, candidates: tuple[Item, ...], dialogue: Dialogue, ask: Ask, **fields: Any
    ) -> GroundedTitles:
        """What the model picks; nothing is asked where there is nothing to pick from."""
        if not candidates:
            return GroundedTitles(asked=False)
        reply = await ask(
            RECOMMEND.bounded(titles=self.context.shown_items),
            **self.fields(dialogue),
            **self.extra_fields(),
            **fields,
            items=candidates,
            limit=self.context.shown_items,
        )
        repeat = self.options.repeat
        return ground(reply.titles, self.context, dialogue, repeat=repeat, among=candidates)

    def open_pool(self, dialogue: Dialogue) -> CandidatePool:
        return CandidatePool(self.context, dialogue, repeat=self.options.repeat)

    @property
    def query(self) -> CatalogueQuery:
        """The SQL tool, made when it is first asked for: not every agent has it."""
        return CatalogueQuery.of(self.context.catalogue)

    @cached_property
    def taste(self) -> np.ndarray:
        """(items,): the recommender's scores by the user's history."""
        return self.recommender.scores(positions(self.context.case.history, self.context.catalogue))
