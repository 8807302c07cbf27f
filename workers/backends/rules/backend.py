"""The backend that needs no weights: the generic rules of `workers.backends.rules.answers`."""

from __future__ import annotations

import random
from typing import Annotated

from pydantic import Field

from agents.core.calls import Call, Completion
from agents.core.plugins import Options
from workers.backends.core.backend import Backend, BackendContext
from workers.backends.core.replies import fill, random_reply
from workers.backends.rules.answers import Rules
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView

__all__ = ["RulesBackend"]

_CHARACTERS_A_TOKEN = 4  # the usual rule of thumb for English


class _Options(Options):
    skill: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Chance that the rule's answer is used, instead of a random valid reply of the schema."""
    knowledge: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the catalogue that it remembers unshown."""


class RulesBackend(Backend):
    """Answers in the process that asks. Its token counts are characters over four."""

    Options = _Options
    wants_shown = True
    watermark = True
    cacheable = False

    def __init__(self, options: _Options, context: BackendContext) -> None:
        self._skill = options.skill
        self._rules = Rules(Knowledge(context.catalogue(), options.knowledge))

    async def complete(self, call: Call) -> Completion:
        rng = random.Random(call.seed)
        if rng.random() < self._skill:
            answer = self._rules.answer(call.step.kind, PromptView(call), call.seed)
            text = fill(call.step.schema, answer)
        else:
            text = random_reply(call.step.schema, rng)
        prompt = sum(len(m.content) for m in call.messages)
        return Completion(text, "stop", _tokens(prompt), _tokens(len(text)))


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_A_TOKEN)
