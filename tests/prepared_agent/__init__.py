"""An agent for tests, which needs one artifact that is fitted and one that a model writes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agents.core.agent import Agent, AgentOptions
from agents.core.artifacts import CallsRecipe, Content, FitRecipe, Progress, Recipe
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.items import Catalogue, TrainingData
from agents.core.plugins import operational
from agents.core.steps import ReplyModel, Step, text

__all__ = ["Prepared"]


class _Group(ReplyModel):
    name: Annotated[str, text(40)]


GROUP = Step("group", "summarise", _Group)


@dataclass(frozen=True)
class Popularity(FitRecipe):
    """Counts interactions, again each epoch; `log` is given a line an epoch.

    It is silent for an hour before the epoch `stuck`.
    """

    epochs: int
    seconds: float = 0.0
    fault: str = ""
    log: str = ""
    stuck: int = 0

    label = "popularity"

    @property
    def packages(self) -> tuple[str, ...]:
        return ("no_such_package",) if self.fault == "package" else ()

    def identity(self) -> Mapping[str, Any]:
        return {"name": "popularity", "version": self.version, "epochs": self.epochs}

    def stand_in(self) -> Popularity:
        return Popularity(1)

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        start = state.data["epoch"] if state is not None else 0
        counts = np.zeros(data.items, np.int64) if state is None else state.arrays["counts"].copy()
        for epoch in range(start + 1, self.epochs + 1):
            time.sleep(self.seconds if epoch != self.stuck else 3600)
            if self.log:
                line = {"seed": seed, "epoch": epoch, "pid": os.getpid()}
                with Path(self.log).open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if self.fault == "raises" and seed == 1 and epoch == 2:
                raise RuntimeError("a fault in training")
            if self.fault == "dies" and epoch == 2 and start == 0:
                os._exit(7)
            counts += np.bincount(data.interactions.items, minlength=data.items) + seed
            at = Content({"epoch": epoch}, {"counts": counts.copy()})
            last = epoch == self.epochs
            noise = time.time_ns() if self.fault == "noise" else 0
            result = Content({"noise": noise}, {"counts": counts.copy()}) if last else None
            measured = {"most": float(counts.max())}
            yield Progress(epoch, self.epochs, f"epoch {epoch}", at, result, measured)

    def load(self, content: Content, catalogue: Catalogue) -> np.ndarray:
        assert len(content.arrays["counts"]) == len(catalogue)
        return content.arrays["counts"]


@dataclass(frozen=True)
class Groups(CallsRecipe):
    """A name for each batch of items, by the role `agent.tree`."""

    batches: int
    fault: str = ""

    part = "tree"
    steps = (GROUP,)
    label = "groups"

    def identity(self) -> Mapping[str, Any]:
        return {"name": "groups", "version": self.version, "batches": self.batches}

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        size = -(-len(catalogue) // self.batches)
        done = 0

        async def one(batch: int) -> str:
            nonlocal done
            items = catalogue.items[batch * size : (batch + 1) * size]
            reply = await ask(GROUP, draw=batch, noun=catalogue.noun, items=items)
            done += 1
            report(done, self.batches)
            return reply.name

        names = []
        for first in range(0, self.batches, 4):
            if self.fault == "raises" and first:
                raise RuntimeError("a fault in building")
            last = min(first + 4, self.batches)
            names += await asyncio.gather(*(one(batch) for batch in range(first, last)))
        return Content({"names": names})

    def load(self, content: Content, catalogue: Catalogue) -> tuple[str, ...]:
        return tuple(content.data["names"])


class _Options(AgentOptions):
    uses: Literal["both", "fit", "calls", "none"] = "both"
    epochs: Annotated[int, Field(ge=1)] = 3
    batches: Annotated[int, Field(ge=1)] = 6
    seconds: float = operational(0.0)
    fault: str = operational("")
    log: str = operational("")
    stuck: int = operational(0)


class Prepared(Agent):
    """Recommends what is popular, and speaks of the first group."""

    Options = _Options
    roles = ("agent", "agent.tree")
    steps = (GROUP,)

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        fit = Popularity(options.epochs, options.seconds, options.fault, options.log, options.stuck)
        groups = Groups(options.batches, options.fault)
        used = {"fit": {"scores": fit}, "calls": {"groups": groups}, "none": {}}
        return used.get(options.uses, {"scores": fit, "groups": groups})

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        found = self.context.artifacts
        assert set(found) == set(self.needs(self.options))
        counts = found.get("scores", np.zeros(len(self.context.catalogue)))
        best = np.argsort(-counts, kind="stable")[: self.context.shown_items]
        items = tuple(self.context.catalogue.items[place] for place in best)
        words = f"From {found.get('groups', ('nothing',))[0]}."
        return AgentTurn(words, "recommend", items, items)
