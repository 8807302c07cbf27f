"""The official files of MovieLens 100K and 1M: finding them, reading them, naming a bad line.

They are latin-1. A copy that was saved again in UTF-8 is read as UTF-8.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from agents.core.errors import DataError
from simulators.domains.core.files import check_folder, lines_of, read_data, short
from simulators.domains.core.recorded import is_whole_time

# The flags of u.item in order; the first, "unknown", says nothing about a film and is left out.
_FLAGS = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
_GENRES_100K = tuple(_FLAGS.split("|"))
_COLUMNS = {"user": pa.int32(), "item": pa.int32(), "rating": pa.float64(), "time": pa.int64()}
_WHOLE = re.compile(r"\d{1,9}")
_TIME = re.compile(r"\d{1,18}")
_RATING = re.compile(r"\d(\.\d+)?")
HIGHEST_RATING = 5.0


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


def find_layout(folder: Path) -> Layout:
    """The layout whose two files lie in `folder`."""
    check_folder(folder, "MovieLens")
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


def read_movie_file(path: Path, layout: Layout) -> list[Movie]:
    """All films in the order of the file, two ids of one film still apart."""
    movies: list[Movie] = []
    seen: set[int] = set()
    content = read_data(path, lambda row: layout.parse_movie(row) is not None)
    for line, row in lines_of(content):
        movie = layout.parse_movie(row)
        if movie is None:
            raise DataError(f"{path}:{line}: found {short(row)}, expected {layout.movie_row}")
        if movie.number in seen:
            raise DataError(f"{path}:{line}: the movie id {movie.number} is listed twice")
        seen.add(movie.number)
        movies.append(movie)
    return movies


def read_ratings(path: Path, layout: Layout) -> tuple[np.ndarray, ...]:
    """Users, movie numbers, ratings and times, one entry per line."""

    def is_whole(row: str) -> bool:
        return _is_rating(row, layout) and is_whole_time(row.rpartition(layout.separator)[2])

    content = read_data(path, is_whole).rstrip(b"\r\n")
    data = content.replace(layout.separator.encode(), b"\t")
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            csv.ReadOptions(column_names=list(_COLUMNS)),
            csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=_COLUMNS, null_values=[]),
        )
    except (pa.ArrowException, ValueError) as error:
        raise _bad_rating(path, content, layout, str(error)) from None
    columns = tuple(table.column(name).to_numpy() for name in _COLUMNS)
    user, number, rating, time = columns
    # Written so that NaN fails it.
    sound = (user >= 0) & (number >= 0) & (time >= 0) & (rating >= 0) & (rating <= HIGHEST_RATING)
    if not sound.all():
        raise _bad_rating(path, content, layout, f"line {np.argmin(sound) + 1}")
    return columns


def _bad_rating(path: Path, content: bytes, layout: Layout, reason: str) -> DataError:
    """The error that names the first bad line; reading fast does not know where it stopped."""
    expected = "4 fields (user, movie, rating of 0 to 5, unix time) separated by "
    expected += "tabs" if layout.separator == "\t" else repr(layout.separator)
    for line, row in lines_of(content):
        if not _is_rating(row, layout):
            return DataError(f"{path}:{line}: found {short(row)}, expected {expected}")
    return DataError(f"{path}: cannot be read ({short(reason)}), expected {expected}")


def _is_rating(row: str, layout: Layout) -> bool:
    fields = row.split(layout.separator)
    return (
        len(fields) == len(_COLUMNS)
        and all(_WHOLE.fullmatch(field) for field in fields[:2])
        and _RATING.fullmatch(fields[2]) is not None
        and float(fields[2]) <= HIGHEST_RATING
        and _TIME.fullmatch(fields[3]) is not None
    )
