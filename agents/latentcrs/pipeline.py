"""How LatentCRS is prepared (sections 4.1 and 4.2, appendices B and E.1), as recipes.

    windows   random windows of users' histories, and each user's validation item      fit
    words     what the simulated user says first with that history and that next item   model calls
    vectors   the embeddings of these words                                             model calls
    anchors   eq. 3: k-means of the users' embeddings                                   fit
    em        Algorithm 1 over all of these                                             fit

Each is an artifact of its own, made once for all sweeps that share what it depends on. `Recipe`s
have the contents of their inputs only while they are made (`given`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from agents.core.artifacts import (
    CallsRecipe,
    Content,
    FirstWords,
    FitRecipe,
    Progress,
    Recipe,
    importing,
)
from agents.core.ask import Ask, together
from agents.core.errors import DataError
from agents.core.grounding import normalise
from agents.core.items import Catalogue, TrainingData
from agents.core.plural import many
from agents.latentcrs.model import IntentModel, PopularityRanker, Ranker
from agents.recommenders.core import Recommender, RecommenderRef, histories

if TYPE_CHECKING:
    from agents.latentcrs.training import Settings

ENCODER = "encoder"
_EMBEDDED_AT_ONCE = 16  # texts in one call
_CALLS_AT_ONCE = 32  # for words
_EMBEDDINGS_AT_ONCE = 16  # calls, enough for eight replicas; after a crash they are paid again
_ENCODED_STEP = 4096  # histories between two reports
_SHORT = _EMBEDDED_AT_ONCE  # examples of a rehearsal: one whole call of embeddings


def sentence(words: str) -> str:
    """What is embedded: the prompt of section 4.2.1, of whose last token models give the state."""
    return f"This sentence: '{words}' means in one word:"


@dataclass(frozen=True)
class Windows(FitRecipe):
    """Examples of a history and the next item, drawn from the training interactions.

    For training, `per_user` windows of each of at most `users` users: the next item is drawn among
    all but the first, and so is the length of the history before it, up to `longest`. For
    validation, at most `validation_users` users with all their training items (the latest
    `longest`) and their validation item.
    """

    per_user: int
    users: int | None
    validation_users: int
    longest: int
    draw: int | None
    """The seed of what is drawn; None: the training seed."""

    @property
    def label(self) -> str:
        return "training windows"

    def identity(self) -> Mapping[str, Any]:
        return {"windows": asdict(self), "version": self.version}

    def stand_in(self) -> Windows:
        return self

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        drawn = np.random.default_rng(np.random.SeedSequence([self.draw or 0, 1]))
        if self.draw is None:
            drawn = np.random.default_rng(np.random.SeedSequence([seed, 0]))
        seen = histories(data)
        able = np.array([user for user, items in enumerate(seen) if len(items) > 1], np.int64)
        held = np.array([u for u in able if data.validation[u] >= 0], np.int64)
        if not len(able) or not len(held):
            raise DataError(
                "latentcrs cannot be trained: no user has two training interactions and a "
                "validation item"
            )
        chosen = drawn.permutation(able)[: self.users]
        checked = drawn.permutation(held)[: self.validation_users]
        items, lengths, targets = [], [], []
        for user in chosen:
            history = seen[user]
            for _ in range(self.per_user):
                target = int(drawn.integers(1, len(history)))
                length = int(drawn.integers(1, min(target, self.longest) + 1))
                items.append(history[target - length : target])
                targets.append(history[target])
        for user in checked:
            items.append(seen[user][-self.longest :])
            targets.append(data.validation[user])
        lengths = [len(history) for history in items]
        arrays = {
            "items": np.concatenate(items).astype(np.int32),
            "ends": np.cumsum(lengths).astype(np.int64),
            "targets": np.array(targets, np.int32),
            "validation": np.arange(len(items)) >= len(chosen) * self.per_user,
        }
        note = f"{len(items) - len(checked):,} windows, {len(checked):,} validation examples"
        yield Progress(1, 1, note, result=Content({"examples": len(items)}, arrays))

    def load(self, content: Content, catalogue: Catalogue) -> Content:
        return content


def histories_of(windows: Content) -> list[np.ndarray]:
    """The history of every example: positions of items, oldest first."""
    return np.split(windows.arrays["items"], windows.arrays["ends"][:-1])


@dataclass(frozen=True)
class Utterances(CallsRecipe):
    """What the sweep's simulated user says first if it has the history of an example and wants the
    next item."""

    windows: Windows
    most: int | None = None
    """At most so many examples, for rehearsals; None: all."""
    content: Content | None = field(default=None, compare=False)
    first_words: FirstWords | None = field(default=None, compare=False)

    by_user = True
    steps = ()
    version = 3

    @property
    def label(self) -> str:
        return "first words"

    def inputs(self) -> Mapping[str, Recipe]:
        return {"windows": self.windows}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        return replace(self, content=inputs["windows"])

    def with_user(self, first_words: FirstWords) -> Self:
        return replace(self, first_words=first_words)

    def identity(self) -> Mapping[str, Any]:
        return {"words": {}, "version": self.version}

    def rehearsal(self, domain: Any) -> tuple[Self, float]:
        assert self.content is not None
        every = len(self.content.arrays["targets"])
        return replace(self, most=min(_SHORT, every)), every / min(_SHORT, every)

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        assert self.content is not None
        assert self.first_words is not None
        first_words = self.first_words
        targets = self.content.arrays["targets"][: self.most]
        past = histories_of(self.content)
        found = [""] * len(targets)
        todo = iter(range(len(targets)))
        done = 0

        async def speak() -> None:
            nonlocal done
            for example in todo:
                history = [catalogue.items[place] for place in past[example]]
                target = catalogue.items[targets[example]]
                found[example] = await first_words(example, history, target)
                done += 1
                report(done, len(targets))

        await together(speak() for _ in range(min(_CALLS_AT_ONCE, len(targets))))
        named = zip(found, targets, strict=True)
        leaks = sum(normalise(catalogue.items[t].title) in normalise(w) for w, t in named)
        every = len(self.content.arrays["targets"])
        return Content({"words": found, "of": every, "name_the_target": leaks})

    def load(self, content: Content, catalogue: Catalogue) -> Content:
        return content


@dataclass(frozen=True)
class UtteranceEmbeddings(CallsRecipe):
    """The embeddings of the words, by the role `agent.encoder`: half floats, a row an example."""

    words: Utterances
    content: Content | None = field(default=None, compare=False)

    part = ENCODER
    steps = ()

    @property
    def label(self) -> str:
        return "embeddings of words"

    def inputs(self) -> Mapping[str, Recipe]:
        return {"words": self.words}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        return replace(self, content=inputs["words"])

    def identity(self) -> Mapping[str, Any]:
        return {"vectors": {"prompt": sentence("")}, "version": self.version}

    def rehearsal(self, domain: Any) -> tuple[Self, float]:
        assert self.content is not None
        return self, self.content.data["of"] / len(self.content.data["words"])

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        assert self.content is not None
        texts = [sentence(words) for words in self.content.data["words"]]
        parts = range(0, len(texts), _EMBEDDED_AT_ONCE)
        store: list[np.ndarray] = []
        todo = iter(parts)
        done = 0

        async def embed() -> None:
            nonlocal done
            for start in todo:
                rows = slice(start, start + _EMBEDDED_AT_ONCE)
                vectors = await ask.embed(texts[rows])
                if not store:
                    store.append(on_disk((len(texts), vectors.shape[1])))
                store[0][rows] = vectors
                done += 1
                report(done, len(parts))

        await together(embed() for _ in range(min(_EMBEDDINGS_AT_ONCE, len(parts))))
        return Content({"examples": len(texts)}, {"vectors": store[0]})

    def load(self, content: Content, catalogue: Catalogue) -> Content:
        return content


def on_disk(shape: tuple[int, int]) -> np.ndarray:
    """Half floats in a temporary file that is gone with them: they may not fit in memory."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float16, "w+", shape=shape)


@dataclass(frozen=True)
class Anchors(FitRecipe):
    """Eq. 3: the centroids of the embeddings of all users, by their training items."""

    recommender: RecommenderRef
    intents: int
    content: Content | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        return "intent anchors"

    @property
    def packages(self) -> tuple[str, ...]:
        return ("sklearn",)

    def inputs(self) -> Mapping[str, Recipe]:
        return {"recommender": self.recommender.recipe()}

    def given(self, inputs: Mapping[str, Content]) -> Self:
        return replace(self, content=inputs["recommender"])

    def identity(self) -> Mapping[str, Any]:
        return {"anchors": {"intents": self.intents}, "version": self.version}

    def stand_in(self) -> FitRecipe:
        return PopularityRecipe()

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        with importing(self.packages, "the agent 'latentcrs'"):
            from agents.training.k_means import k_means
        recommender = self.recommender.recipe().restored(_content(self.content))
        users = yield from encoded(recommender, [items for items in histories(data) if len(items)])
        anchors = k_means(users, self.intents, seed)
        note = f"{len(anchors)} anchors of {len(users):,} users"
        yield Progress(len(users), len(users), note, result=Content({}, {"anchors": anchors}))

    def load(self, content: Content, catalogue: Catalogue) -> Content:
        return content


@dataclass(frozen=True)
class ExpectationMaximisation(FitRecipe):
    """Algorithm 1. `settings` are those of `agents.latentcrs.training`."""

    recommender: RecommenderRef
    anchors: Anchors
    vectors: UtteranceEmbeddings
    settings: Mapping[str, Any]
    contents: Mapping[str, Content] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        return "latentcrs"

    @property
    def packages(self) -> tuple[str, ...]:
        return ("torch",)

    @property
    def size(self) -> str:
        return f"at most {many(self._settings().most_epochs, 'epoch')}"

    def inputs(self) -> Mapping[str, Recipe]:
        return {
            "recommender": self.recommender.recipe(),
            "windows": self.vectors.words.windows,
            "anchors": self.anchors,
            "vectors": self.vectors,
        }

    def given(self, inputs: Mapping[str, Content]) -> Self:
        return replace(self, contents=inputs)

    def identity(self) -> Mapping[str, Any]:
        speed = ("device", "threads")
        own = {name: value for name, value in self.settings.items() if name not in speed}
        return {"em": own, "version": self.version}

    def stand_in(self) -> FitRecipe:
        return PopularityRecipe()

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        with importing(self.packages, "the agent 'latentcrs'"):
            from agents.latentcrs.training import Examples, train
        windows = self.contents["windows"]
        recommender = self.recommender.recipe().restored(self.contents["recommender"])
        past = histories_of(windows)
        users = yield from encoded(recommender, past)
        vectors = self.contents["vectors"].arrays["vectors"]
        if len(vectors) != len(past):
            raise DataError(f"found {len(vectors):,} embeddings for {len(past):,} examples")
        examples = Examples(
            users,
            vectors,
            windows.arrays["targets"],
            past,
            windows.arrays["validation"],
            self.contents["anchors"].arrays["anchors"],
            np.asarray(recommender.item_embeddings, np.float32),
        )
        yield from train(self._settings(), examples, seed, state)

    def _settings(self) -> Settings:
        from agents.latentcrs.settings import Settings

        return Settings(**self.settings)

    def load(self, content: Content, catalogue: Catalogue) -> Ranker:
        return IntentModel(content)


@dataclass(frozen=True)
class PopularityRecipe(FitRecipe):
    """Popularity in place of a trained model, for rehearsals."""

    @property
    def label(self) -> str:
        return "popularity"

    def identity(self) -> Mapping[str, Any]:
        return {"untrained": True, "version": self.version}

    def stand_in(self) -> PopularityRecipe:
        return self

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        counts = np.bincount(data.interactions.items, minlength=data.items).astype(np.float32)
        yield Progress(1, 1, "counts", result=Content({}, {"counts": counts}))

    def load(self, content: Content, catalogue: Catalogue) -> Ranker:
        return PopularityRanker(content)


def encoded(
    recommender: Recommender, past: list[np.ndarray]
) -> Generator[Progress, None, np.ndarray]:
    """Reports progress; returns the (histories, d) embeddings, float32."""
    found: list[np.ndarray] = []
    for done, items in enumerate(past):
        if done % _ENCODED_STEP == 0:
            yield Progress(done, len(past), f"{done:,} of {len(past):,} histories embedded")
        found.append(recommender.user_embedding(items.tolist()))
    return np.stack(found).astype(np.float32)


def _content(given: Content | None) -> Content:
    assert given is not None
    return given
