"""The backend that needs no model weights: the generic rules of
`workers.backends.rules.answers`."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from agents.core.calls import REHEARSED_WIDTH, Call, Completion, Embedded
from agents.core.plugins import Options
from workers.backends.core.backend import Backend, BackendContext
from workers.backends.core.model_free import estimated_tokens
from workers.backends.core.replies import fill, random_reply
from workers.backends.rules.answers import Rules
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView

__all__ = ["RulesBackend"]

_WORD = re.compile(r"\w+")


class _Options(Options):
    skill: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Probability that the rule's answer is used instead of a random valid reply."""
    knowledge: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the catalogue that it remembers without being shown."""


class RulesBackend(Backend):
    """Answers in the calling process. Its token counts are characters divided by four."""

    version = 2
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
        return Completion(text, "stop", estimated_tokens(prompt), estimated_tokens(len(text)))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Bags of words: each word adds 1 or -1 to one of 128 dimensions, both chosen
        by its hash."""
        vectors = np.zeros((len(texts), REHEARSED_WIDTH), np.float32)
        for row, words in zip(vectors, texts, strict=True):
            for word in _WORD.findall(words.lower()):
                digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4)
                number = int.from_bytes(digest.digest(), "big")
                row[number // 2 % REHEARSED_WIDTH] += 1 - 2 * (number % 2)
        return Embedded(vectors, sum(estimated_tokens(len(words)) for words in texts))
