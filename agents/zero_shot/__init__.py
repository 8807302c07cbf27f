"""Zero-shot (AF-IRS, section 5.1.3): a model decides, and executes its decision.

The paper says only that it "directly makes decisions and executes actions". We decided: one
call to decide, one to name items or to ask, one to write the response; items are named by title
from the model's own knowledge and grounded in the catalogue afterwards.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.decision_first import (
    ASK,
    CHOOSE_ACTION,
    RECOMMEND,
    RESPOND,
    DecisionFirst,
    DecisionFirstOptions,
)

__all__ = ["ZeroShot"]


class _Options(DecisionFirstOptions):
    named: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many titles the model names, for metrics of its ranking; as many as are shown: None."""


class ZeroShot(DecisionFirst):
    """Decide, execute, respond; no reasoning, no tools."""

    version = 4
    Options = _Options
    steps = (CHOOSE_ACTION, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._named = options.named or 0

    @property
    def most_named(self) -> int:
        return max(self._named, self.context.shown_items)
