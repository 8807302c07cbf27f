"""MovieLens 100K and 1M, read from the official files. The files are never part of crsweep.

- Interactions rated below `min_rating` are dropped, then users and items with fewer than `k_core`
  interactions, until none is left (AF-IRS, section 5.1.1).
- Each user's interactions are ordered by time, ties by line of the file. The last is the target
  of `test`, the one before of `validation`; the history of a `test` case includes the latter.
- ML-100K lists 18 films under two ids. One film is one item here: the later id's interactions
  count under the first id, and where a user then has an item twice, the earliest is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from agents.core.errors import DataError
from agents.core.items import Catalogue, Item
from simulators.core.cases import Published
from simulators.domains.core.leave_one_out import Events, first_of_title, leave_one_out
from simulators.domains.core.recorded import (
    LoadedData,
    RecordedDomain,
    RecordedOptions,
    remarks_on_end,
)
from simulators.domains.movielens.files import (
    HIGHEST_RATING,
    Layout,
    Movie,
    find_layout,
    read_movie_file,
    read_ratings,
)

__all__ = ["MovieLens"]

_YEAR = re.compile(r"\((\d{4})\)")


class _Options(RecordedOptions):
    min_rating: float = Field(3.0, ge=0, le=HIGHEST_RATING)
    """Interactions rated lower are left out."""


class MovieLens(RecordedDomain):
    """Films, and people who rated them, from a folder with the official files."""

    Options = _Options
    options: _Options
    name = "movielens"
    version = 2

    @property
    def dataset(self) -> str:
        return self._layout.name

    def files(self) -> Sequence[Path]:
        return [self.options.path / name for name in (self._layout.ratings, self._layout.movies)]

    def published(self) -> Published | None:
        if self._layout.name != "ML-1M":
            return None
        if self.options.min_rating == 4 and self.options.k_core <= 1:
            return Published(
                "LatentCRS, Table 1 (min_rating 4; its authors' data has 3,533 items)",
                {"users": 6_034, "items": 3_522, "interactions": 575_272},
            )
        return Published(
            "AF-IRS, Table 1 (min_rating 3, k_core 10)",
            {"users": 6_038, "items": 3_307, "interactions": 835_789},
        )

    def load(self) -> LoadedData:
        options, layout = self.options, self._layout
        movies = read_movie_file(options.path / layout.movies, layout)
        ratings = options.path / layout.ratings
        number, movie, rating, time = read_ratings(ratings, layout)
        numbers, user = np.unique(number, return_inverse=True)
        item = first_of_title([movie.title for movie in movies])[_listed(movies, movie, ratings)]
        liked = rating >= options.min_rating
        kept, histories = leave_one_out(
            ratings,
            Events(numbers.tolist(), user[liked], item[liked], time[liked]),
            options.k_core,
            f"min_rating {options.min_rating:g} and ",
            len(number),
        )
        catalogue = Catalogue([_item_of(movies[position]) for position in kept], noun="movie")
        remarks = [remark for path in self.files() for remark in remarks_on_end(path)]
        return LoadedData(catalogue, histories, remarks)

    @cached_property
    def _layout(self) -> Layout:
        return find_layout(self.options.path)


def _listed(movies: list[Movie], number: np.ndarray, path: Path) -> np.ndarray:
    """The position of every rated movie; DataError if unknown."""
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
    return found


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
