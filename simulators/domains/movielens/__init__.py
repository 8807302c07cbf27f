"""MovieLens 100K and 1M, read from the official files. The files are never part of crsweep.

- Interactions rated below `min_rating` are dropped, then users and items with fewer than `k_core`
  interactions, until none is left (AF-IRS, section 5.1.1).
- Each user's interactions are ordered by time, ties by line of the file. The last is the target
  of `test`, the one before of `validation`; the history of a `test` case includes the latter.
- ML-100K lists 18 films under two ids. One film is one item here: the later id's interactions
  count under the first id, and where a user then has an item twice, the earliest is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Catalogue, Interactions, Item
from agents.core.plugins import Options as PluginOptions
from agents.core.plugins import operational
from simulators.core.cases import Case, Domain, Split
from simulators.domains.core import (
    Histories,
    case_of,
    check_lengths,
    fingerprint,
    k_core,
    read_data,
)
from simulators.domains.movielens.files import (
    HIGHEST_RATING,
    Layout,
    Movie,
    find_layout,
    read_movies,
    read_ratings,
)

__all__ = ["MovieLens"]

_YEAR = re.compile(r"\((\d{4})\)")


class MovieLens(Domain):
    """Films, and people who rated them, from a folder with the official files.

    Raises DataError, with the file and the line, for data that is missing or malformed.
    """

    class Options(PluginOptions):
        path: Path = operational(...)
        """The folder of the files. Their hashes are part of identity; where they lie is not."""
        min_rating: float = Field(3.0, ge=0, le=HIGHEST_RATING)
        """Interactions rated lower are left out."""
        k_core: int = Field(10, ge=0)
        """Fewest interactions of a user and of an item; 0 and 1 switch the filter off."""

    version = 1

    def __init__(self, options: Options) -> None:
        self.options = options

    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def catalogue(self) -> Catalogue:
        return self._data[0]

    def case_ids(self, split: Split) -> Sequence[str]:
        return self._case_ids

    def case(self, split: Split, case_id: str) -> Case:
        position = self._position.get(case_id)
        if position is None:
            raise DataError(f"{self.options.path}: there is no case {case_id!r}")
        catalogue, histories = self._data
        return case_of(catalogue, case_id, histories.of(position), split)

    def interactions(self) -> Interactions:
        users, items, times = self._data[1].training()
        return Interactions(self._case_ids, users, items, times)

    def statistics(self) -> dict[str, int]:
        catalogue, histories = self._data
        return {
            "users": len(histories.numbers),
            "items": len(catalogue),
            "interactions": len(histories.items),
        }

    @cached_property
    def _layout(self) -> Layout:
        return find_layout(self.options.path)

    @cached_property
    def _fingerprint(self) -> str:
        layout = self._layout
        files = [
            hashlib.sha256(read_data(self.options.path / name)).hexdigest()
            for name in (layout.ratings, layout.movies)
        ]
        return fingerprint("movielens", self.version, self.options, files)

    @cached_property
    def _data(self) -> tuple[Catalogue, Histories]:
        return _load(self.options, self._layout)

    @cached_property
    def _case_ids(self) -> tuple[str, ...]:
        return tuple(f"u{number}" for number in self._data[1].numbers.tolist())

    @cached_property
    def _position(self) -> dict[str, int]:
        return {case_id: position for position, case_id in enumerate(self._case_ids)}


def _load(options: MovieLens.Options, layout: Layout) -> tuple[Catalogue, Histories]:
    """Read, merge double films, order, filter."""
    movies = read_movies(options.path / layout.movies, layout)
    ratings = options.path / layout.ratings
    user, number, rating, time = read_ratings(ratings, layout)
    every_user, user = np.unique(user, return_inverse=True)
    item = _first_of_title(movies, number, ratings)

    liked = np.flatnonzero(rating >= options.min_rating)
    # Sorting by user, then time is stable: ties stay in the order of the lines.
    order = liked[np.lexsort((time[liked], user[liked]))]
    pairs = user[order] * len(movies) + item[order]
    order = order[np.sort(np.unique(pairs, return_index=True)[1])]
    if options.k_core > 1:
        order = order[k_core(user[order], item[order], options.k_core)]
    if not len(order):
        raise DataError(
            f"{ratings}: no interaction of {len(user):,} is left after min_rating "
            f"{options.min_rating:g} and k_core {options.k_core}; lower one of them"
        )
    users, starts = np.unique(user[order], return_index=True)
    numbers, starts = every_user[users], np.append(starts, len(order))
    check_lengths(ratings, numbers, np.diff(starts))
    kept, items = np.unique(item[order], return_inverse=True)
    catalogue = Catalogue([_item_of(movies[position]) for position in kept], noun="movie")
    return catalogue, Histories(numbers, starts, items.astype(np.int32), time[order])


def _first_of_title(movies: list[Movie], number: np.ndarray, path: Path) -> np.ndarray:
    """The position of every rated movie, or of the first with its title; DataError if unknown."""
    first: dict[str, int] = {}
    for position, movie in enumerate(movies):
        first.setdefault(movie.title, position)
    merged = np.array([first[movie.title] for movie in movies], dtype=np.int32)
    listed = np.array([movie.number for movie in movies])
    order = np.argsort(listed)
    found = order[np.searchsorted(listed, number, sorter=order).clip(max=len(listed) - 1)]
    known = listed[found] == number
    if not known.all():
        row = int(np.argmin(known))
        raise DataError(
            f"{path}:{row + 1}: found a rating of the movie {number[row]}, "
            "expected an id that the movies file lists"
        )
    return merged[found]


def _item_of(movie: Movie) -> Item:
    attributes: dict[str, tuple[str, ...]] = {}
    if movie.genres:
        attributes["genre"] = movie.genres
    # A title may hold other brackets after the year, or another number before it.
    years = _YEAR.findall(movie.title)
    if years:
        attributes["decade"] = (f"{years[-1][:3]}0s",)
        attributes["year"] = (years[-1],)
    return Item(str(movie.number), movie.title, attributes)
