"""An agent with memory, for tests of streams: what it says depends on all that it remembers."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agents.core.agent import Agent, AgentOptions
from agents.core.artifacts import Recipe, RolloutsRecipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.memory import MEMORY, LearnedTurn, Memory
from agents.core.plugins import operational
from agents.core.steps import ReplyModel, Step, text

__all__ = ["Remembering"]


_MET: dict[str, tuple[set[str], asyncio.Event]] = {}
"""Digest of a memory -> the cases that have begun with it, and whether they are enough."""


class _Greeting(ReplyModel):
    words: Annotated[str, text(80, "Greet the user.")]


GREET = Step("greet", "verbalise", _Greeting)


class _Options(AgentOptions):
    memory_batch: Annotated[int, Field(ge=1)] = 1
    remembers: bool = True
    collects: int = 0
    """Entries of an offline memory, if any."""
    fails: str = ""
    """The case in which it fails."""
    together: int = operational(1)
    """It speaks once so many dialogues with the same memory have begun in its process."""


@dataclass(frozen=True)
class _Everything(Memory):
    batch: int

    def learn(self, turns: Sequence[LearnedTurn]) -> list[dict[str, Any]]:
        last = turns[-1]
        return [{"text": last.text, "accepted": last.accepted, "case": last.extra["case"]}]


@dataclass(frozen=True)
class _Collected(RolloutsRecipe):
    size: int

    @property
    def memory(self) -> _Everything:
        return _Everything(4)

    def identity(self) -> Mapping[str, Any]:
        return {"name": "collected", "size": self.size}

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**given, "collects": 0}


class Remembering(Agent):
    Options = _Options
    options: _Options
    steps = (GREET,)

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        return {MEMORY: _Collected(options.collects)} if options.collects else {}

    @classmethod
    def memory(cls, options: _Options) -> Memory | None:
        online = options.remembers and not options.collects
        return _Everything(options.memory_batch) if online else None

    async def _meet_others(self, case: str, digest: str) -> None:
        cases, all_there = _MET.setdefault(digest, (set(), asyncio.Event()))
        cases.add(case)
        if len(cases) >= self.options.together:
            all_there.set()
        await all_there.wait()

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        case = self.context.case.case_id
        if case == self.options.fails:
            raise RuntimeError("a fault of the agent")
        known = self.context.artifacts.get(MEMORY, ())
        digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        await self._meet_others(case, digest)
        fields = {"noun": self.context.catalogue.noun, "known": len(known)}
        reply = await ask(GREET, **fields, conversation=dialogue.messages)
        items = self.context.catalogue.items
        shown = (items[int(digest[:8], 16) % len(items)],)
        words = f"{reply.words} I remember {len(known)}: {digest[:8]}"
        extra = {"case": case, "known": [entry["case"] for entry in known]}
        return AgentTurn(words, "recommend", shown, shown, extra=extra)
