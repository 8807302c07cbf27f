"""Retrieval by words and by item (CSI, appendix B.3), from title, category and description.

- `lexical`: BM25 (the library bm25s). It needs no weights.
- `dense`: embeddings by the model of the role `agent.retriever`; similarity is their cosine. Those
  of the items are an artifact, made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np

from agents.core.artifacts import CallsRecipe, Content, Recipe
from agents.core.ask import Ask
from agents.core.items import Catalogue, Item
from agents.core.one_per import OnePer
from agents.tools.categories import path_of

RetrieverName = Literal["lexical", "dense"]
ITEM_VECTORS = "item_vectors"
"""The name of the artifact that `dense` needs."""

_PART = "retriever"
RETRIEVER_ROLE = f"agent.{_PART}"
"""The role whose model embeds for an agent."""
_AT_ONCE = 64  # texts in one request
_LONGEST_QUERY = 2000  # characters, the latest kept: models of embeddings read little more


class Retriever(Protocol):
    """Scores all items of a catalogue: (items,), float32, higher is nearer."""

    async def by_query(self, query: str, ask: Ask) -> np.ndarray: ...

    async def by_item(self, item: Item) -> np.ndarray: ...


def retriever_of(
    name: RetrieverName, catalogue: Catalogue, artifacts: Mapping[str, Any]
) -> Retriever:
    """The retriever over `catalogue`; `artifacts` has what `retriever_needs` asked for."""
    if name == "lexical":
        return Lexical.of(catalogue)
    return Dense(catalogue, artifacts[ITEM_VECTORS])


def retriever_needs(name: RetrieverName) -> dict[str, Recipe]:
    """What an agent with this retriever needs prepared."""
    return {} if name == "lexical" else {ITEM_VECTORS: ItemVectors()}


def retriever_roles(name: RetrieverName | None) -> tuple[str, ...]:
    """The roles that an agent with this retriever has besides those that speak."""
    return (RETRIEVER_ROLE,) if name == "dense" else ()


def retrieval_text(item: Item) -> str:
    """What an item is found by: title, category path and description (B.3).

    Without a category, all values of its attributes take the place of the path.
    """
    if "category" in item.attributes:
        return " ".join([item.title, *path_of(item), item.description])
    values = (value for values in item.attributes.values() for value in values)
    return " ".join([item.title, *values, item.description])


class Lexical:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over the words of `retrieval_text`."""

    def __init__(self, catalogue: Catalogue) -> None:
        import bm25s  # late: it is slow to import

        self._split = bm25s.tokenize
        self._texts = {item.id: retrieval_text(item) for item in catalogue.items}
        self._size = len(catalogue)
        words = self._words(list(self._texts.values()))
        self._known = {word for each in words for word in each}
        self._index = None
        if self._known:
            self._index = bm25s.BM25()
            self._index.index(words, show_progress=False)
        self._scores = lru_cache(maxsize=4096)(self._score)

    @staticmethod
    def of(catalogue: Catalogue) -> Lexical:
        """The one index of `catalogue` in this process."""
        return _INDEXES.of(catalogue)

    async def by_query(self, query: str, ask: Ask) -> np.ndarray:
        return self._scores(query)

    async def by_item(self, item: Item) -> np.ndarray:
        return self._scores(self._texts[item.id])

    def _score(self, query: str) -> np.ndarray:
        [words] = self._words([query])
        known = [word for word in words if word in self._known]
        if self._index is None or not known:
            return np.zeros(self._size, np.float32)
        return np.asarray(self._index.get_scores(known), np.float32)

    def _words(self, texts: list[str]) -> list[list[str]]:
        return self._split(texts, return_ids=False, show_progress=False)  # type: ignore[return-value]


class Dense:
    """Cosine of embeddings. `vectors` (items, d) have length 1."""

    def __init__(self, catalogue: Catalogue, vectors: np.ndarray) -> None:
        self._catalogue = catalogue
        self._vectors = vectors

    async def by_query(self, query: str, ask: Ask) -> np.ndarray:
        vector = await embedded(ask, [query[-_LONGEST_QUERY:]])
        return self._vectors @ vector[0]

    async def by_item(self, item: Item) -> np.ndarray:
        return self._vectors @ self._vectors[self._catalogue.position[item.id]]


async def embedded(ask: Ask, texts: Sequence[str]) -> np.ndarray:
    """(texts, d), float32, of length 1: embeddings by the speaker's sub-role `retriever`."""
    return unit_vectors(await ask.as_role(_PART).embed(list(texts)))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """`vectors` with length 1; zero vectors stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors, np.float32), where=norms > 0)


@dataclass(frozen=True)
class ItemVectors(CallsRecipe):
    """The embedding of every item of a catalogue, of length 1."""

    part = _PART
    steps = ()

    @property
    def label(self) -> str:
        return "item vectors"

    def identity(self) -> Mapping[str, Any]:
        return {"name": ITEM_VECTORS, "version": self.version, "text": "title path description"}

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        texts = [retrieval_text(item) or item.id for item in catalogue.items]
        parts = [texts[i : i + _AT_ONCE] for i in range(0, len(texts), _AT_ONCE)]
        found = []
        for done, part in enumerate(parts):
            report(done, len(parts))
            found.append(await ask.embed(part))
        return Content({}, {"vectors": unit_vectors(np.concatenate(found))})

    def load(self, content: Content, catalogue: Catalogue) -> np.ndarray:
        return content.arrays["vectors"]


_INDEXES = OnePer(Lexical)
