"""An artifact: vectors of users, items and facts, from EAR's FM, from TransE, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from agents.core.artifacts import Content, FitRecipe, Progress
from agents.core.errors import DataError
from agents.core.items import Catalogue, TrainingData
from agents.core.paths import FilePath
from agents.core.plugins import Options, operational
from agents.core.plural import many
from agents.core.vector_files import Sha256, VectorFile
from agents.multi_round import fm, transe
from agents.multi_round.given import read_vectors
from agents.multi_round.space import AttributeSpace
from agents.multi_round.vectors import Vectors

_TABLES = ("users", "items", "facts")
_MEAN, _SQUARE = "mean_", "square_"
_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8
_CHECKED = 1000  # pairs of a user and a target that the curve is measured on
_DEPTH = 10
_SHORT = 10  # batches of a stand-in


class EmbeddingOptions(Options):
    """How users, items and facts are embedded."""

    method: Literal["fm", "transe", "given"] = "fm"
    """`fm`: EAR's factorisation machine with attribute-aware BPR. `transe`: TransE (UNICORN).
    `given`: those of the file `path`, see `agents.multi_round.given`."""
    path: FilePath | None = operational(None)
    sha256: Sha256 | None = None
    """The digest of the file, which identifies it (`sha256sum FILE`)."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    epochs: Annotated[int, Field(ge=1)] = 40
    batch_size: Annotated[int, Field(ge=1)] = 512
    lr: Annotated[float, Field(gt=0)] = 0.003
    l2: Annotated[float, Field(ge=0)] = 0.001
    """Of `fm`, on the vectors of the users and items of each example."""
    margin: Annotated[float, Field(gt=0)] = 1.0
    """Of `transe`."""

    @property
    def file(self) -> VectorFile | None:
        """The file of `method: given`."""
        if self.path is None or self.sha256 is None:
            return None
        return VectorFile(path=self.path, sha256=self.sha256)

    @model_validator(mode="after")
    def _given_or_trained(self) -> EmbeddingOptions:
        if self.method == "given" and self.file is None:
            raise ValueError("`method: given` needs `path` and `sha256` of the file of vectors")
        if self.method != "given" and (self.path is not None or self.sha256 is not None):
            raise ValueError(f"`path` and `sha256` are for `method: given`, found {self.method!r}")
        return self


@dataclass(frozen=True)
class EmbeddingRecipe(FitRecipe):
    """Trains the vectors. The curve is the share of `train` targets that rank among the first 10 of
    the items with one of their facts, without the user's history."""

    options: EmbeddingOptions
    is_short: bool = False
    """A stand-in: one epoch of a few batches."""

    version = 1

    @property
    def label(self) -> str:
        return f"{self.options.method} vectors"

    @property
    def size(self) -> str:
        return "" if self.options.method == "given" else many(self.options.epochs, "epoch")

    def identity(self) -> Mapping[str, Any]:
        short = {"short": True} if self.is_short else {}
        return {"vectors": self.options.identity(), "version": self.version, **short}

    def stand_in(self) -> EmbeddingRecipe:
        method = "fm" if self.options.method == "given" else self.options.method
        short = EmbeddingOptions.model_validate(
            {**self.options.model_dump(exclude={"path", "sha256"}), "method": method, "epochs": 1}
        )
        return EmbeddingRecipe(short, is_short=True)

    def fit(
        self, data: TrainingData, seed: int, state: Content | None = None
    ) -> Iterator[Progress]:
        if self.options.method == "given":
            yield Progress(1, 1, "vectors read", result=self._read(data))
            return
        run = _Run(self.options, data, seed, state, _SHORT if self.is_short else None)
        while run.epoch < self.options.epochs:
            run.one_epoch()
            loss, found = run.curve[-1]
            yield Progress(
                run.epoch,
                self.options.epochs,
                run.note,
                state=run.state(),
                measured={"loss": loss, f"hits@{_DEPTH}": found},
            )
        yield Progress(run.epoch, self.options.epochs, run.note, result=run.result())

    def _read(self, data: TrainingData) -> Content:
        users, file = data.interactions.user_ids, self.options.file
        assert file is not None
        tables = read_vectors(file, users, _catalogue(data))
        return Content({"method": "given", "user_ids": list(users), "curve": []}, tables)

    def load(self, content: Content, catalogue: Catalogue) -> Vectors:
        return vectors_of(content, AttributeSpace.of(catalogue))


def vectors_of(content: Content, space: AttributeSpace) -> Vectors:
    """The vectors of an artifact's content; DataError if they belong to another catalogue."""
    tables = {name: np.asarray(content.arrays[name]) for name in _TABLES}
    found = (len(tables["items"]), len(tables["facts"]))
    if found != space.has.shape:
        raise DataError(
            f"the vectors are of {found[0]:,} items and {found[1]:,} facts, the catalogue has "
            f"{space.has.shape[0]:,} and {space.has.shape[1]:,}"
        )
    places = {name: place for place, name in enumerate(content.data["user_ids"])}
    has = space.has.astype(np.float32)
    return Vectors(tables["users"], tables["items"], tables["facts"], places, has)


def _catalogue(data: TrainingData) -> Catalogue:
    if data.catalogue is None:
        raise DataError("vectors of facts need a catalogue; found only interactions")
    return data.catalogue


class _Run:
    """One training. Between epochs, `state` has everything that the next epoch depends on."""

    def __init__(
        self,
        options: EmbeddingOptions,
        data: TrainingData,
        seed: int,
        state: Content | None,
        batches: int | None,
    ) -> None:
        catalogue = _catalogue(data)
        if not len(data.interactions):
            raise DataError("vectors cannot be trained: there is no training interaction")
        self.options, self.seed, self.data = options, seed, data
        self.batches = batches
        self.space = AttributeSpace.of(catalogue)
        self.sampler = fm.BatchSampler(data.interactions, self.space.has)
        self.epoch = 0
        self.curve: list[tuple[float, float]] = []
        """The loss and the share of targets found, for every epoch."""
        if state is None:
            rng = np.random.default_rng([seed, 0])
            sizes = (len(data.interactions.user_ids), *self.space.has.shape)
            scale = options.width**-0.5
            self.weights = {
                name: (rng.standard_normal((rows, options.width)) * scale * 0.1).astype(np.float32)
                for name, rows in zip(_TABLES, sizes, strict=True)
            }
            if options.method == "transe":
                spread = rng.standard_normal((2, options.width)) * scale
                self.weights["relations"] = spread.astype(np.float32)
            self.steps = 0
            self.means = {name: np.zeros_like(array) for name, array in self.weights.items()}
            self.squares = {name: np.zeros_like(array) for name, array in self.weights.items()}
        else:
            self._resume(state)

    def _resume(self, state: Content) -> None:
        names = [*_TABLES, *(["relations"] if self.options.method == "transe" else [])]
        self.weights = {name: state.arrays[name].copy() for name in names}
        self.means = {name: state.arrays[_MEAN + name].copy() for name in names}
        self.squares = {name: state.arrays[_SQUARE + name].copy() for name in names}
        self.epoch, self.steps = state.data["epoch"], state.data["steps"]
        self.curve = [(loss, found) for loss, found in state.data["curve"]]

    @property
    def note(self) -> str:
        if not self.curve:
            return "epoch 0"
        loss, found = self.curve[-1]
        return f"epoch {self.epoch}, loss {loss:.4f}, hits@{_DEPTH} {found:.4f}"

    def one_epoch(self) -> None:
        self.epoch += 1
        rng = np.random.default_rng([self.seed, self.epoch])
        losses = self._fm_epoch(rng) if self.options.method == "fm" else self._transe_epoch(rng)
        self.curve.append((float(np.mean(losses)), self._found()))

    def _fm_epoch(self, rng: np.random.Generator) -> list[float]:
        losses = []
        for places in self._batches(rng.permutation(len(self.sampler))):
            batch = self.sampler.batch(places, rng)
            loss, slopes = fm.loss_and_gradients(self.weights, batch, self.options.l2)
            self._adam(slopes)
            losses.append(loss)
        return losses

    def _transe_epoch(self, rng: np.random.Generator) -> list[float]:
        losses = []
        for triples in transe.graph(self.sampler.users, self.sampler.items, self.space.has):
            for places in self._batches(rng.permutation(len(triples.head))):
                side = rng.integers(2, size=len(places))
                sizes = (len(self.weights[triples.heads]), len(self.weights[triples.tails]))
                corrupt = (rng.random(len(places)) * np.array(sizes)[side]).astype(np.int64)
                batch = triples._replace(head=triples.head[places], tail=triples.tail[places])
                loss, slopes = transe.loss_and_gradients(
                    self.weights, batch, corrupt, side, self.options.margin
                )
                self._adam(slopes)
                losses.append(loss)
        return losses

    def _batches(self, order: np.ndarray) -> Iterator[np.ndarray]:
        size = self.options.batch_size
        for start in range(0, len(order), size)[: self.batches]:
            yield order[start : start + size]

    def _adam(self, slopes: Mapping[str, np.ndarray]) -> None:
        self.steps += 1
        rate = np.float32(
            self.options.lr * (1 - _SQUARE_DECAY**self.steps) ** 0.5 / (1 - _DECAY**self.steps)
        )
        for name, slope in slopes.items():
            mean, square = self.means[name], self.squares[name]
            mean *= np.float32(_DECAY)
            mean += np.float32(1 - _DECAY) * slope
            square *= np.float32(_SQUARE_DECAY)
            square += np.float32(1 - _SQUARE_DECAY) * slope * slope
            self.weights[name] -= rate * mean / (np.sqrt(square) + np.float32(_TINY))

    def _tables(self) -> dict[str, np.ndarray]:
        """As they are used: TransE's are normalised, as in its loss."""
        found = {name: self.weights[name] for name in _TABLES}
        if self.options.method == "transe":
            found = {
                name: table / (np.linalg.norm(table, axis=1, keepdims=True) + _TINY)
                for name, table in found.items()
            }
        return {name: table.astype(np.float32) for name, table in found.items()}

    def _found(self) -> float:
        pairs = self.data.dialogues
        if pairs is None or not len(pairs):
            return 0.0
        rng = np.random.default_rng(self.seed)  # the same pairs and facts in every epoch
        chosen = rng.permutation(len(pairs))[:_CHECKED]
        users, targets = pairs.users[chosen], pairs.items[chosen]
        own = np.where(self.space.has[targets], rng.random((len(chosen), len(self.space.facts))), 0)
        fact = own.argmax(axis=1)
        tables = self._tables()
        scores = (tables["users"][users] + tables["facts"][fact]) @ tables["items"].T
        scores[~self.space.items_with[fact]] = -np.inf
        seen = self.sampler.users
        for row, user in enumerate(users):
            first, last = np.searchsorted(seen, [user, user + 1])
            scores[row, self.sampler.items[first:last]] = -np.inf
        wanted = scores[np.arange(len(chosen)), targets]
        ranks = 1 + (scores > wanted[:, None]).sum(axis=1)
        return float((ranks <= _DEPTH).mean())

    def state(self) -> Content:
        arrays = dict(self.weights)
        arrays |= {_MEAN + name: array for name, array in self.means.items()}
        arrays |= {_SQUARE + name: array for name, array in self.squares.items()}
        copies = {name: array.copy() for name, array in arrays.items()}
        data = {"epoch": self.epoch, "steps": self.steps, "curve": list(self.curve)}
        return Content(data, copies)

    def result(self) -> Content:
        data = {
            "method": self.options.method,
            "user_ids": list(self.data.interactions.user_ids),
            "curve": list(self.curve),
        }
        return Content(data, self._tables())
