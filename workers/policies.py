"""Serves trained policies to the dialogues of one process: batched, off the event loop, and cached.

Decisions requested while others are computed wait, and are then computed together, in a thread. A
decision comes from the call cache if it is there: its key contains the digest of the weights.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agents.core.calls import Call, Completion, Embedded
from agents.core.errors import AgentError, EngineRefused, described
from agents.core.policy import Decision, Decoding
from agents.policies.core.trained import TrainedPolicy
from sweeps.identity import canonical
from workers.cache.client import CallCache

MOST_AT_ONCE = 64


class _Asked(NamedTuple):
    call: Call
    decoding: Decoding
    answer: asyncio.Future[Decision]


class ServedPolicy:
    """A policy (`agents.core.policy.LabelPolicy`), shared by the agents of one process."""

    def __init__(self, policy: TrainedPolicy, cache: CallCache | None = None) -> None:
        self._policy, self._cache = policy, cache
        self.labels, self.digest = policy.labels, policy.digest
        self._models: dict[Decoding, PolicyModel] = {}
        self._waiting: list[_Asked] = []
        self._working: asyncio.Task[None] | None = None

    def model(self, decoding: Decoding) -> PolicyModel:
        if decoding not in self._models:
            self._models[decoding] = PolicyModel(self, self._policy, decoding, self._cache)
        return self._models[decoding]

    async def decided(self, call: Call, decoding: Decoding) -> Decision:
        """A decision, computed in a batch. Raises AgentError for errors of the network."""
        loop = asyncio.get_running_loop()
        asked = _Asked(call, decoding, loop.create_future())
        self._waiting.append(asked)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        return await asked.answer

    async def _work(self) -> None:
        await asyncio.sleep(0)  # requests of the same iteration of the loop join the batch
        while self._waiting:
            first = self._waiting[0].decoding
            batch = [each for each in self._waiting if each.decoding == first][:MOST_AT_ONCE]
            taken = set(map(id, batch))
            self._waiting = [each for each in self._waiting if id(each) not in taken]
            try:
                found = await asyncio.to_thread(self._compute, batch, first)
            except Exception as error:  # noqa: BLE001  (a network of a plug-in may raise anything)
                failed = AgentError(f"the policy {self._policy.name}: {described(error)}")
                for each in batch:
                    if not each.answer.done():
                        each.answer.set_exception(failed)
                continue
            for each, decision in zip(batch, found, strict=True):
                if not each.answer.done():  # its dialogue may have been cancelled
                    each.answer.set_result(decision)

    def _compute(self, batch: Sequence[_Asked], decoding: Decoding) -> list[Decision]:
        states = [each.call.messages[0].content for each in batch]
        return self._policy.decide(states, [each.call.seed for each in batch], decoding)


class PolicyModel:
    """A served policy with a decoding, as `agents.core.calls.Model`."""

    wants_shown = False
    guided = False

    def __init__(
        self,
        served: ServedPolicy,
        policy: TrainedPolicy,
        decoding: Decoding,
        cache: CallCache | None,
    ) -> None:
        self._decoding: Decoding = decoding
        self._served, self._cache = served, cache
        self._fingerprint = policy.digest
        self.name = f"policy:{policy.name}"
        self.greedy = decoding == "argmax"
        self.identity = identity(policy, decoding)

    async def complete(self, call: Call) -> Completion:
        if self._cache is None:
            return await self._decide(call)
        return await self._cache.reply(call.key(self), None, lambda: self._decide(call))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        raise EngineRefused(f"{self.name} provides no embeddings")

    async def _decide(self, call: Call) -> Completion:
        found = await self._served.decided(call, self._decoding)
        # A policy's prompt costs nothing, so it has no tokens.
        return Completion(found.text, "stop", 0, 0, fingerprint=self._fingerprint)


def identity(policy: TrainedPolicy, decoding: Decoding) -> str:
    """Canonical JSON of what decides an answer besides state and seed.

    It contains the digest of the weights, so answers of other weights never have the same key.
    """
    found: Mapping[str, object] = {
        "policy": policy.name,
        "version": policy.version,
        "labels": list(policy.labels),
        "weights": policy.digest,
        "decoding": decoding,
    }
    return canonical(found)
