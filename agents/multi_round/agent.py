"""An agent of the multi-round setting: it reads the user's message and follows a policy.

It calls no model. It says the same sentences to `attribute_user` and to users played by a model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.artifacts import Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.seeds import call_seed
from agents.multi_round.embeddings import EmbeddingOptions, EmbeddingRecipe
from agents.multi_round.policy import Policy
from agents.multi_round.rounds import ASK_NO, NO_ITEM, Rounds
from agents.multi_round.space import AttributeSpace, Form
from agents.multi_round.talk import Reader, question_text, recommendation
from agents.multi_round.vectors import Vectors
from agents.recommenders.core import positions

VECTORS = "vectors"
_LONGEST = 30  # turns in the history that policies see
_PARTS = 2**48
_RANKED = 100  # the policy's items come first, then candidates by their scores


class MultiRoundOptions(AgentOptions):
    """Options of every agent of this kind."""

    questions: Form = "auto"
    """`binary`: yes/no questions about one value (LastFM in the papers). `enumerated`: questions
    about all values of an attribute, or of a kind of category (Yelp). `auto`: enumerated if the
    catalogue groups its values, as Yelp's does, otherwise binary."""
    refused_facts: Literal["score", "exclude"] = "score"
    """The effect of a "no". `score`: items with the fact get a lower score (the papers). `exclude`:
    they stop being candidates, which is justified if the user is honest."""
    repeat: bool = False
    """Whether items of the user's history may be recommended, as in the public code of SCPR and
    UNICORN. Items refused in this dialogue are never recommended again."""
    vectors: EmbeddingOptions = EmbeddingOptions()
    """The vectors that rank the candidates: EAR's FM, or TransE."""


class MultiRound(Agent):
    """Asks about attribute values or recommends items, as its policy decides."""

    Options = MultiRoundOptions
    options: MultiRoundOptions
    version: ClassVar[int] = 2
    roles: ClassVar[tuple[str, ...]] = ()
    steps = ()
    asks_about_attributes = True

    @classmethod
    def needs(cls, options: Any) -> Mapping[str, Recipe]:
        return {VECTORS: EmbeddingRecipe(options.vectors)}

    def __init__(self, options: MultiRoundOptions, context: AgentContext) -> None:
        super().__init__(options, context)
        catalogue = context.catalogue
        self._space = AttributeSpace.of(catalogue, options.questions)
        self._reader = Reader.of(self._space)
        self._vectors: Vectors = context.artifacts[VECTORS]
        had = positions(context.case.history, catalogue)
        allowed = np.ones((1, len(catalogue)), bool)
        if not options.repeat:
            allowed[0, had] = False
        self._rounds = Rounds(
            self._space,
            self._vectors,
            self._vectors.user(context.case)[None],
            allowed,
            _LONGEST,
            exclude=options.refused_facts == "exclude",
            histories=np.array([had], np.int64).reshape(1, -1),
        )
        self._policy = self.policy()
        self._policy.begin(self._rounds)
        self._asked: int | None = None
        self._shown: np.ndarray | None = None

    @abstractmethod
    def policy(self) -> Policy:
        """The policy that decides in each turn."""

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        understood = self._hear(dialogue.whole[-1].text)
        seed = call_seed(ask.sampling, ask.scope, "agent", "decide", dialogue.turn, draw=0, reask=0)
        draws = np.array([seed / _PARTS])
        items = self.context.catalogue.items
        if not len(self._rounds.candidates(0)):
            return AgentTurn(recommendation((), self._space.noun), "recommend", (), ())
        one = np.zeros(1, np.int64)
        decided = self._policy.decide(self._rounds, one, draws, self.context.shown_items)
        first = [place for place in decided.items[0].tolist() if place != NO_ITEM]
        others = self._rounds.best(one, _RANKED)[0].tolist()
        ranked = [p for p in dict.fromkeys([*first, *others]) if p != NO_ITEM]
        ranking = tuple(items[place] for place in ranked)
        extra: dict[str, Any] = {
            "candidates": int(self._rounds.left(one)[0]),
            "understood": understood,
        }
        question = int(decided.questions[0])
        if question >= 0:
            self._asked, self._shown = question, None
            asked = self._space.questions[question]
            extra["asked"] = [self._space.facts[place].value for place in asked.facts[:1]]
            if self._space.form == "enumerated":
                extra["asked"] = [asked.facet]
            words = question_text(asked, self._space)
            return AgentTurn(words, "ask", ranking=ranking, extra=extra)
        shown = ranking[: min(len(first), self.context.shown_items)]
        self._asked, self._shown = None, np.array([ranked[: len(shown)]])
        return AgentTurn(
            recommendation(shown, self._space.noun), "recommend", shown, ranking, extra=extra
        )

    def _hear(self, text: str) -> dict[str, list[str]]:
        """Updates the state with what the user said, which is returned for the turn's record."""
        read = self._reader.read(text, self._asked)
        one = np.zeros(1, np.int64)
        liked, disliked = (np.zeros((1, len(self._space.facts)), bool) for _ in range(2))
        liked[0, list(read.liked)] = True
        disliked[0, list(read.disliked)] = True
        if self._shown is not None:
            self._rounds.refuse(one, self._shown)
        if self._asked is not None:
            about = self._space.members[self._asked]
            self._rounds.answer(one, np.array([self._asked]), liked, disliked)
            if not (liked[0] & about).any():
                self._rounds.outcomes[0, min(int(self._rounds.turn[0]), _LONGEST) - 1] = ASK_NO
        else:
            self._rounds.learn(one, liked, disliked)
        facts = self._space.facts
        return {
            "liked": [facts[place].value for place in read.liked],
            "disliked": [facts[place].value for place in read.disliked],
        }
