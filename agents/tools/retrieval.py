"""Retrieval by words and by item (CSI, appendix B.3), from title, category and description.

- `lexical`: BM25 (the library bm25s). It needs no weights.
- `dense`: embeddings by the model of the role `agent.retriever`; similarity is their cosine. Those
  of the items are an artifact: embedded once, or read from a file that the same model has made
  (`vectors`). Queries are always embedded by the role's model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, Self

import numpy as np
from pydantic import model_validator

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.artifacts import CallsRecipe, Content, FitRecipe, Progress, Recipe
from agents.core.ask import Ask
from agents.core.calls import REHEARSED_WIDTH
from agents.core.errors import ModelUnavailable
from agents.core.items import Catalogue, Item, TrainingData
from agents.core.per_object import PerObject
from agents.core.vector_files import ITEM_IDS, ITEMS, NamedRows, VectorFile, read_tables
from agents.tools.categories import path_of

RetrieverName = Literal["lexical", "dense"]
ITEM_VECTORS = "item_vectors"
"""The name of the artifact that `dense` needs."""

_PART = "retriever"
RETRIEVER_ROLE = f"agent.{_PART}"
"""The role whose model embeds for an agent."""
_AT_ONCE = 64  # texts in one request
_LONGEST_QUERY = 2000  # characters, the latest kept: models of embeddings read little more


class RetrieverOptions(AgentOptions):
    """Options of every agent with a retriever."""

    retriever: RetrieverName = "lexical"
    """`dense` searches with embeddings by the role `agent.retriever`."""
    vectors: VectorFile | None = None
    """With `dense`, a file with the embeddings of the items, made by the model that embeds the
    queries; by default, that model embeds the items."""

    @model_validator(mode="after")
    def _vectors_are_searched(self) -> Self:
        if self.vectors is not None and self.retriever != "dense":
            raise ValueError(f"`vectors` needs `retriever: dense`, found {self.retriever!r}")
        return self


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


def retriever_needs(name: RetrieverName, vectors: VectorFile | None) -> dict[str, Recipe]:
    """What an agent with this retriever needs prepared."""
    if name == "lexical":
        return {}
    return {ITEM_VECTORS: ItemVectors() if vectors is None else GivenItemVectors(vectors)}


def retriever_roles(name: RetrieverName | None) -> tuple[str, ...]:
    """The roles that an agent with this retriever has besides those that speak."""
    return (RETRIEVER_ROLE,) if name == "dense" else ()


def retrieval_text(item: Item) -> str:
    """What an item is found by: title, category path and description, without features (B.3).

    Without a category, all values of its attributes take the place of the path.
    """
    about = item.summary
    if "category" in item.attributes:
        return " ".join([item.title, *path_of(item), about])
    values = (value for values in item.attributes.values() for value in values)
    return " ".join([item.title, *values, about])


class RetrievingAgent(Agent):
    """An agent that always searches; a subclass adds what else it needs to what is asked here."""

    Options = RetrieverOptions
    embedding_roles = (RETRIEVER_ROLE,)

    def __init__(self, options: RetrieverOptions, context: AgentContext) -> None:
        super().__init__(options, context)
        self._retriever = retriever_of(options.retriever, context.catalogue, context.artifacts)

    @classmethod
    def roles_of(cls, options: Any) -> tuple[str, ...]:
        return (*cls.roles, *retriever_roles(options.retriever))

    @classmethod
    def needs(cls, options: Any) -> Mapping[str, Recipe]:
        return retriever_needs(options.retriever, options.vectors)


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
    """Cosine of embeddings. `vectors` (items, d) have length 1.

    ModelUnavailable if a query has another width: no query of that model could be compared.
    """

    def __init__(self, catalogue: Catalogue, vectors: np.ndarray) -> None:
        self._catalogue = catalogue
        self._vectors = vectors

    async def by_query(self, query: str, ask: Ask) -> np.ndarray:
        [vector] = await embedded(ask, [query[-_LONGEST_QUERY:]])
        if len(vector) != self._vectors.shape[1]:
            raise ModelUnavailable(
                f"the model of the role {RETRIEVER_ROLE!r} embeds queries in {len(vector):,} "
                f"dimensions, the vectors of the items have {self._vectors.shape[1]:,}; expected "
                "both from the same model"
            )
        return self._vectors @ vector

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


@dataclass(frozen=True)
class GivenItemVectors(FitRecipe):
    """The vectors of the items from a file: `items` (n, d), named by `item_ids`.

    Items that the catalogue lacks are ignored, so one file may serve several domains.
    """

    file: VectorFile
    is_short: bool = False
    """A stand-in: random vectors, as wide as those that the backend `rules` makes of queries."""

    @property
    def label(self) -> str:
        return "item vectors of a file"

    def identity(self) -> Mapping[str, Any]:
        short = {"short": True} if self.is_short else {}
        return {"name": ITEM_VECTORS, "version": self.version, **self.file.identity(), **short}

    def stand_in(self) -> GivenItemVectors:
        return GivenItemVectors(self.file, is_short=True)

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        if self.is_short:
            shape = (data.items, REHEARSED_WIDTH)
            found = np.random.default_rng(seed).standard_normal(shape, np.float32)
        else:
            assert data.catalogue is not None
            rows = NamedRows(ITEM_IDS, [item.id for item in data.catalogue.items])
            found = read_tables(self.file, {ITEMS: rows})[ITEMS]
        content = Content({}, {"vectors": unit_vectors(found)})
        yield Progress(1, 1, "vectors read", result=content)

    def load(self, content: Content, catalogue: Catalogue) -> np.ndarray:
        return content.arrays["vectors"]


_INDEXES = PerObject(Lexical)
