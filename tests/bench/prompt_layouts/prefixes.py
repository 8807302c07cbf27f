"""How much of a prompt a prefix cache contains, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.bench.prompt_layouts.calls import Asked
from tests.bench.prompt_layouts.layouts import LAYOUTS, Chat

BLOCK = 16  # tokens of a block of vLLM's prefix cache


class Prefixes(NamedTuple):
    tokens: float
    """Of a prompt, in the mean."""
    shared: float
    """Tokens shared with the call before of the same role and dialogue."""
    shared_by_step: float
    """The same with the call before of the same step."""
    hits: float
    """The share of all tokens that a cache of whole blocks holds, empty at first."""


def prefixes(model: str, calls: Sequence[Asked]) -> dict[str, Prefixes]:
    """How much of a prompt has been computed already, in each layout."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    found = {}
    for name, layout in LAYOUTS.items():
        before: dict[tuple[str, ...], list[int]] = {}
        shared: dict[int, list[int]] = {2: [], 3: []}  # by how long the key is
        cache: set[int] = set()
        tokens = hits = 0
        for asked in calls:
            ids = tokenizer.encode(rendered(tokenizer, layout(asked.pieces)))
            tokens += len(ids)
            key = asked.dialogue, asked.call.role, asked.call.step.name
            for length in shared:
                if key[:length] in before:
                    shared[length].append(_shared(before[key[:length]], ids))
                before[key[:length]] = ids
            blocks = [hash(tuple(ids[:end])) for end in range(BLOCK, len(ids) + 1, BLOCK)]
            hits += BLOCK * sum(block in cache for block in blocks)
            cache.update(blocks)
        by_role, by_step = (float(np.mean(shared[length])) for length in (2, 3))
        found[name] = Prefixes(tokens / len(calls), by_role, by_step, hits / tokens)
    return found


def rendered(tokenizer: Any, chat: Chat) -> str:
    """The text of a chat in the format of the model's template."""
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
