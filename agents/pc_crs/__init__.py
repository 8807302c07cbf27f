"""PC-CRS (Qin et al. 2024, EMNLP Findings), a baseline of CSI and of RSO.

The paper specifies two stages for a recommended item. Strategy-guided explanation: the model
selects one of six credibility-aware persuasive strategies by the conversation and explains the item
by it. Iterative refinement: a critic checks what the explanation claims against what is known of
the item; claims without support are sent back and the explanation is revised, at most `rounds`
times.

Decided here:

- It recommends one item in every turn, the best by `retriever` for the conversation: CSI says that
  it "focuses entirely on persuasion". Items shown before do not come again (`repeat: true` allows
  it). The user's history is never read: in CSI, no baseline sees more than the conversation.
- CSI runs it without instructions for sales (4.1), so it knows no budget.
- The critic lists claims without support; none means that the explanation passes. After the last
  round the explanation is sent as it is, and the record says what is still unsupported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.items import Item
from agents.core.sales import shown_in
from agents.core.steps import ReplyModel, Step, text
from agents.recommenders.core import best, positions
from agents.tools.retrieval import RetrieverOptions, RetrievingAgent

__all__ = ["PCCRS"]

_Strategy = Literal[
    "framing",
    "logical_appeal",
    "emotional_appeal",
    "evidence_based",
    "social_proof",
    "anchoring",
]


class _Choice(ReplyModel):
    reason: Annotated[str, text(300, "Say what in the conversation calls for the strategy.")]
    strategy: Annotated[_Strategy, Field(description="Choose the strategy.")]


class _Explanation(ReplyModel):
    message: Annotated[str, text(800, "Write your message to the user.")]


class _Critique(ReplyModel):
    unsupported: Annotated[
        list[Annotated[str, text(200)]],
        Field(
            max_length=5,
            description="List the claims in the message that the facts do not support; [] for "
            "none.",
        ),
    ]


_CHOOSE = Step("choose", "choose", _Choice)
_EXPLAIN = Step("explain", "verbalise", _Explanation)
_CRITICISE = Step("criticise", "extract", _Critique)
_REFINE = Step("refine_message", "verbalise", _Explanation)
_DEPTH = 50  # of the ranking that is recorded


class _Options(RetrieverOptions):
    rounds: Annotated[int, Field(ge=0, le=10)] = 2
    """How often an explanation is checked and revised, at most; 0 switches the stage off."""
    repeat: bool = False
    """Whether items shown before may be recommended again."""


class PCCRS(RetrievingAgent):
    """Recommends, persuades by a strategy, and checks its own claims."""

    version = 3
    Options = _Options
    options: _Options
    roles = ("agent", "agent.critic")
    steps = (_CHOOSE, _EXPLAIN, _CRITICISE, _REFINE)

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        ranking = await self._search(dialogue, ask)
        shown = ranking[:1]
        fields: dict[str, Any] = {
            "noun": self.context.catalogue.noun,
            "conversation": dialogue.messages,
            "items": shown,
        }
        choice = await ask(_CHOOSE, **fields)
        first = await ask(_EXPLAIN, **fields, strategy=choice.strategy)
        message, checks = await self._refined(first.message, choice.strategy, fields, ask)
        extra = {"reason": choice.reason, "unsupported": checks, "rounds": len(checks)}
        return AgentTurn(message, "persuade", shown, ranking, ranking, choice.strategy, extra)

    async def _refined(
        self, message: str, strategy: str, fields: Mapping[str, Any], ask: Ask
    ) -> tuple[str, list[list[str]]]:
        """The message after refinement, and what each check found unsupported."""
        checks: list[list[str]] = []
        for _ in range(self.options.rounds):
            critique = await ask.as_role("critic")(_CRITICISE, **fields, message=message)
            checks.append(list(critique.unsupported))
            if not critique.unsupported:
                break
            revised = await ask(
                _REFINE,
                **fields,
                strategy=strategy,
                message=message,
                unsupported=critique.unsupported,
            )
            message = revised.message
        return message, checks

    async def _search(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...]:
        """The best items for all words of the conversation, best first."""
        words = " ".join(message.text for message in dialogue.messages)
        scores = await self._retriever.by_query(words, ask)
        catalogue = self.context.catalogue
        allowed = np.ones(len(catalogue), bool)
        if not self.options.repeat:
            allowed[positions(shown_in(dialogue), catalogue)] = False
        if not allowed.any():  # everything was shown: rather again than nothing
            allowed[:] = True
        items = catalogue.items
        return tuple(items[place] for place in best(scores, _DEPTH, among=allowed).tolist())
