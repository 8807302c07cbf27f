"""Chat-Rec (LatentCRS, section 5.3; Gao et al. 2023, arXiv 2303.14524): candidates into a prompt.

The cited paper specifies: the user's profile and history are written into the prompt, a recommender
provides candidates, and the model narrows and re-orders them by the conversation. LatentCRS says no
more than that it "converts user profiles and historical interactions into prompts". We decided:

- Every turn recommends: a call that picks from the candidates, and one that writes the response.
- A profile is what the user said so far and the latest items of the history; the data sets have no
  other.
- The candidates are the recommender's best by the history; they do not depend on the words.
- `listed` items are named, of which the first are shown: the one-turn metrics go deeper than what
  is shown. Candidates that the model leaves out do not follow.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.ask import Ask
from agents.core.decision_first import RESPOND
from agents.core.dialogue import Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, Title
from agents.tools.candidates import CandidateOptions, PicksFromCandidates

__all__ = ["ChatRec"]


class _Picks(ReplyModel):
    titles: Annotated[
        list[Title],
        Field(min_length=1, max_length=100, description="List the titles, best first."),
    ]


_PICK = Step("pick", "rank", _Picks)


class _Options(CandidateOptions):
    listed: Annotated[int, Field(ge=1, le=100)] = 20
    """How many candidates the model names; at least as many as are shown."""


class ChatRec(PicksFromCandidates):
    """A model picks from what a recommender proposes, in every turn."""

    version = 3
    Options = _Options
    steps = (_PICK, RESPOND)

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        return "recommend"

    async def pick(
        self, candidates: tuple[Item, ...], dialogue: Dialogue, ask: Ask, **fields: Any
    ) -> GroundedTitles:
        if not candidates:
            return GroundedTitles(asked=False)
        assert isinstance(self.options, _Options)
        limit = min(len(candidates), max(self.options.listed, self.context.shown_items))
        reply = await ask(
            _PICK.bounded(titles=limit),
            **self.fields(dialogue),
            **fields,
            items=candidates,
            limit=limit,
        )
        repeat = self.options.repeat
        return ground(reply.titles, self.context, dialogue, repeat=repeat, among=candidates)

    def record(self) -> tuple[str, dict[str, Any]]:
        return "recommend", {}
