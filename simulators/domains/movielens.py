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
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
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
    lines_of,
    read_data,
    short,
)

__all__ = ["MovieLens"]

# The flags of u.item in order; the first, "unknown", says nothing about a film and is left out.
_FLAGS = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
_GENRES_100K = tuple(_FLAGS.split("|"))
_YEAR = re.compile(r"\((\d{4})\)")
_COLUMNS = {"user": pa.int32(), "item": pa.int32(), "rating": pa.float64(), "time": pa.int64()}
_WHOLE = re.compile(r"\d{1,9}")
_TIME = re.compile(r"\d{1,18}")
_RATING = re.compile(r"\d(\.\d+)?")
_HIGHEST_RATING = 5.0


class Movie(NamedTuple):
    number: int
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How one release of MovieLens lays out its files."""

    name: str
    ratings: str
    movies: str
    separator: str
    parse_movie: Callable[[str], Movie | None]
    movie_row: str


class MovieLens(Domain):
    """Films, and people who rated them, from a folder with the official files.

    Raises DataError, with the file and the line, for data that is missing or malformed.
    """

    class Options(PluginOptions):
        path: Path = operational(...)
        """The folder of the files. Their hashes are part of identity; where they lie is not."""
        min_rating: float = Field(3.0, ge=0, le=_HIGHEST_RATING)
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
        return _find_layout(self.options.path)

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


def _movie_100k(row: str) -> Movie | None:
    """A row of u.item, or None where it is malformed."""
    fields = row.split("|")
    flags = fields[5:]
    if len(fields) != 5 + len(_GENRES_100K) or not _WHOLE.fullmatch(fields[0]):
        return None
    if not fields[1].strip() or not set(flags) <= {"0", "1"}:
        return None
    genres = [name for name, flag in zip(_GENRES_100K[1:], flags[1:], strict=True) if flag == "1"]
    return Movie(int(fields[0]), fields[1].strip(), tuple(genres))


def _movie_1m(row: str) -> Movie | None:
    """A row of movies.dat, or None where it is malformed."""
    fields = row.split("::")
    if len(fields) != 3 or not _WHOLE.fullmatch(fields[0]) or not fields[1].strip():
        return None
    genres = tuple(genre for genre in fields[2].split("|") if genre)
    return Movie(int(fields[0]), fields[1].strip(), genres)


_LAYOUTS = (
    Layout(
        "ML-100K", "u.data", "u.item", "\t", _movie_100k, "24 fields (id|title|...|19 genre flags)"
    ),
    Layout("ML-1M", "ratings.dat", "movies.dat", "::", _movie_1m, "3 fields (id::title::genres)"),
)


def _find_layout(folder: Path) -> Layout:
    """The layout whose two files lie in `folder`."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise DataError(f"{folder}: {what}; `path` must be the folder of the MovieLens files")
    # A dangling link counts as present: reading it says what is wrong with it.
    present = {entry.name for entry in folder.iterdir()}
    complete = [layout for layout in _LAYOUTS if {layout.ratings, layout.movies} <= present]
    if len(complete) == 1:
        return complete[0]
    if complete:
        raise DataError(f"{folder}: holds both ML-100K and ML-1M; `path` must be a folder of one")
    for layout in _LAYOUTS:
        missing = {layout.ratings, layout.movies} - present
        if len(missing) == 1:
            here = ({layout.ratings, layout.movies} - missing).pop()
            raise DataError(
                f"{folder / missing.pop()}: the file is missing; {here} is there, "
                f"and {layout.name} needs both"
            )
    looked = ", ".join(f"{one.ratings} and {one.movies} ({one.name})" for one in _LAYOUTS)
    raise DataError(f"{folder}: no MovieLens files; looked for {looked}")


def _load(options: MovieLens.Options, layout: Layout) -> tuple[Catalogue, Histories]:
    """Read, merge double films, order, filter."""
    movies = _read_movies(options.path / layout.movies, layout)
    ratings = options.path / layout.ratings
    user, number, rating, time = _read_ratings(ratings, layout)
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


def _read_movies(path: Path, layout: Layout) -> list[Movie]:
    """All films in the order of the file, two ids of one film still apart."""
    movies: list[Movie] = []
    seen: set[int] = set()
    for line, row in lines_of(read_data(path)):
        movie = layout.parse_movie(row)
        if movie is None:
            raise DataError(f"{path}:{line}: found {short(row)}, expected {layout.movie_row}")
        if movie.number in seen:
            raise DataError(f"{path}:{line}: the movie id {movie.number} stands here twice")
        seen.add(movie.number)
        movies.append(movie)
    return movies


def _read_ratings(path: Path, layout: Layout) -> tuple[np.ndarray, ...]:
    """Users, movie numbers, ratings and times, one entry a line."""
    content = read_data(path).rstrip(b"\r\n")
    data = content.replace(layout.separator.encode(), b"\t")
    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            pa.csv.ReadOptions(column_names=list(_COLUMNS)),
            pa.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=_COLUMNS, null_values=[]),
        )
    except (pa.ArrowException, ValueError) as error:
        raise _bad_rating(path, content, layout, str(error)) from None
    columns = tuple(table.column(name).to_numpy() for name in _COLUMNS)
    user, number, rating, time = columns
    # Written so that NaN fails it.
    sound = (user >= 0) & (number >= 0) & (time >= 0) & (rating >= 0) & (rating <= _HIGHEST_RATING)
    if not sound.all():
        raise _bad_rating(path, content, layout, f"line {np.argmin(sound) + 1}")
    return columns


def _bad_rating(path: Path, content: bytes, layout: Layout, reason: str) -> DataError:
    """The error that names the first bad line; reading fast does not know where it stopped."""
    expected = "4 fields (user, movie, rating of 0 to 5, unix time) separated by "
    expected += "tabs" if layout.separator == "\t" else repr(layout.separator)
    for line, row in lines_of(content):
        fields = row.split(layout.separator)
        if (
            len(fields) != len(_COLUMNS)
            or not all(_WHOLE.fullmatch(field) for field in fields[:2])
            or not (_RATING.fullmatch(fields[2]) and float(fields[2]) <= _HIGHEST_RATING)
            or not _TIME.fullmatch(fields[3])
        ):
            return DataError(f"{path}:{line}: found {short(row)}, expected {expected}")
    return DataError(f"{path}: cannot be read ({short(reason)}), expected {expected}")


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
