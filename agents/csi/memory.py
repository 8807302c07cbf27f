"""The memory of CSI (section 4.4 and appendix C.2): what has convinced users who are like this one.

Its entries are persuasions after which a user bought an item above the budget. The key of an entry
is the profile that the agent had inferred in that turn: nothing that the user did not say. Those
with the nearest keys, by squared L2 of their embeddings, are shown to the model that persuades.

Decided here:

- The key has preference, category path, personality and price range, not the selected item.
- The turn that counts is the latest persuasion, up to the purchase, that showed the item bought.
- With the retriever `dense`, keys are embedded by the role `agent.retriever`; else they are hashed
  words, which need no weights.
- Search is exact. The paper uses Faiss, which finds the same among some hundreds of entries.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from agents.core.artifacts import Recipe, RolloutsRecipe
from agents.core.ask import Ask
from agents.core.memory import LearnedTurn, Memory
from agents.core.plugins import Options
from agents.core.vector_files import VectorFile
from agents.csi.steps import Profile
from agents.tools.retrieval import RetrieverName, embedded, retriever_needs, unit_vectors

Holds = Literal["strategy", "utterance"]
_AT_ONCE = 16  # rollouts
_DIMENSIONS = 512  # of hashed words
_WORD = re.compile(r"\w+")
KEY = "memory_key"
"""Where the agent records the key of a persuasion."""


class MemoryOptions(Options):
    """Option `memory` of CSI."""

    kind: Literal["offline", "online"]
    """`online` grows across dialogues, `offline` is collected from training users."""
    holds: Holds = "utterance"
    """What to show from an entry: only the strategy, or the message too."""
    k: Annotated[int, Field(ge=1, le=20)] = 3
    """The number of entries shown."""
    size: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The number of entries of an offline memory (25 to 100 in the paper)."""

    @model_validator(mode="after")
    def _only_offline_has_a_size(self) -> Self:
        if (self.kind == "offline") != (self.size is not None):
            raise ValueError("an offline memory needs a `size`, and an online one takes none")
        return self


@dataclass(frozen=True)
class SalesMemory(Memory):
    """Keeps persuasions that sold an item above the budget."""

    batch: int

    def learn(self, turns: Sequence[LearnedTurn]) -> list[dict[str, Any]]:
        if not turns or turns[-1].accepted is None or not turns[-1].over_budget:
            return []
        bought = turns[-1].accepted
        for turn in reversed(turns):
            if turn.action == "persuade" and bought in turn.shown and KEY in turn.extra:
                return [{**turn.extra[KEY], "strategy": turn.strategy, "utterance": turn.text}]
        return []


@dataclass(frozen=True)
class CollectSales(RolloutsRecipe):
    """The offline memory: sales above the budget, to training users, without a memory."""

    size: int
    retriever: RetrieverName
    vectors: VectorFile | None

    @property
    def label(self) -> str:
        return f"memory of {self.size} sales"

    @property
    def memory(self) -> SalesMemory:
        return SalesMemory(_AT_ONCE)

    def inputs(self) -> Mapping[str, Recipe]:
        return retriever_needs(self.retriever, self.vectors)

    def identity(self) -> Mapping[str, Any]:
        return {"name": "sales", "size": self.size, "version": self.version}

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**given, "memory": {"kind": "online"}, "memory_batch": _AT_ONCE}


class Recall:
    """Finds entries by their keys. `entries` are those of `SalesMemory`, oldest first."""

    def __init__(self, entries: Sequence[Mapping[str, Any]], retriever: RetrieverName) -> None:
        self._entries, self._retriever = entries, retriever
        vectors = [_read(e["vector"]) if e["vector"] else _hashed(e["profile"]) for e in entries]
        self._keys = np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)

    async def key(self, profile: Profile, ask: Ask) -> tuple[dict[str, Any], np.ndarray]:
        """The key of a profile, as it is recorded, and its embedding."""
        text = "; ".join(
            (
                f"preference: {profile.preference}",
                f"category path: {' > '.join(profile.category_path) or 'unknown'}",
                f"personality: {profile.personality}",
                f"price range: {' to '.join(map(str, profile.price_range)) or 'unknown'}",
            )
        )
        if self._retriever == "lexical":
            return {"profile": text, "vector": None}, _hashed(text)
        vector = (await embedded(ask, [text]))[0].astype(np.float32)
        return {"profile": text, "vector": base64.b64encode(vector.tobytes()).decode()}, vector

    def nearest(self, vector: np.ndarray, k: int) -> list[int]:
        """Places of the `k` nearest entries; of equally near ones the older comes first."""
        if not self._entries:
            return []
        distances = ((self._keys - vector) ** 2).sum(axis=1)
        return np.argsort(distances, kind="stable")[:k].tolist()

    def shown(self, places: Sequence[int], holds: Holds) -> tuple[str, ...]:
        """What prompts say of these entries, each once."""
        found = []
        for place in places:
            entry = self._entries[place]
            words = str(entry["strategy"]).replace("_", " ")
            if holds == "utterance":
                words += f": {' '.join(str(entry['utterance']).split())}"
            found.append(words)
        return tuple(dict.fromkeys(found))


def _hashed(text: str) -> np.ndarray:
    """(`_DIMENSIONS`,), float32, of length 1: how often words occur, each at a hashed place."""
    counts = np.zeros((1, _DIMENSIONS), np.float32)
    for word in _WORD.findall(text.lower()):
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        counts[0, int.from_bytes(digest, "big") % _DIMENSIONS] += 1
    return unit_vectors(counts)[0]


def _read(vector: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(vector), np.float32)
