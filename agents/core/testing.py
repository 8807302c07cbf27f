"""For tests of plug-ins: a small catalogue, and a model whose replies the test gives.

The replies take the way of real ones: they are read, checked against the schema of their step, and
asked for again if they are invalid.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.core.ask import Ask, CallLog
from agents.core.calls import Call, Completion, Embedded
from agents.core.items import Catalogue, Item
from agents.core.prompts import PromptFolder, prompt_folder

ITEMS = (
    Item("1", "Silent River, The (1971)", {"genre": ("Drama",), "decade": ("1970s",)}),
    Item("2", "Heat Wave (1995)", {"genre": ("Action", "Thriller"), "decade": ("1990s",)}),
    Item("3", "Alien Garden (1979)", {"genre": ("Horror",), "decade": ("1970s",)}),
    Item("4", "Alien Gardens (1986)", {"genre": ("Action",), "decade": ("1980s",)}),
    Item("5", "Amélie's Café (2001)", {"genre": ("Comedy", "Romance"), "decade": ("2000s",)}),
)
CATALOGUE = Catalogue(ITEMS, noun="film")


class FakeModel:
    """Answers with `reply(call)`: text, a dict that becomes JSON, a Completion, or an error.

    It embeds a text as (its length, 1), or fails with what `reply` gives for the list of texts.
    """

    name = "fake"
    identity = '{"backend":"fake"}'
    wants_shown = False
    greedy = False

    def __init__(self, reply: Callable[[Any], Any], *, guided: bool = True) -> None:
        self._reply = reply
        self.guided = guided
        self.calls: list[Call] = []

    async def complete(self, call: Call) -> Completion:
        self.calls.append(call)
        await asyncio.sleep(0)
        answer = self._reply(call)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return Completion(text, "stop", 10, 5)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        await asyncio.sleep(0)
        answer = self._reply(texts)
        if isinstance(answer, Exception):
            raise answer
        vectors = np.array([[len(text), 1] for text in texts], np.float32)
        return Embedded(vectors, sum(map(len, texts)), retries=2, fingerprint="f1")


def scripted(*answers: Any) -> Callable[[Call], Any]:
    """Gives `answers` one after the other."""
    rest = list(answers)
    return lambda call: rest.pop(0)


def by_step(**answers: Any) -> Callable[[Call], Any]:
    """Gives each step its own answer; a list is used up one by one."""

    def reply(call: Call) -> Any:
        answer = answers[call.step.name]
        return answer.pop(0) if isinstance(answer, list) else answer

    return reply


def make_ask(
    model: Any,
    plugin: type | PromptFolder | Path,
    *,
    role: str = "agent",
    journal: CallLog | None = None,
) -> Ask:
    """An Ask whose every role is served by `model`.

    It uses the prompts of `plugin`, a class of a plug-in or a folder.
    """
    if isinstance(plugin, type):
        folder = prompt_folder(sys.modules[plugin.__module__], None)
    else:
        folder = plugin if isinstance(plugin, PromptFolder) else PromptFolder(plugin)
    return Ask(role, "u1", 7, folder, lambda _: model, journal or CallLog())
