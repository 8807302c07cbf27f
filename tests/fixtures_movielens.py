"""Small made-up data in the official layouts of MovieLens. No title, user or rating is real."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FLAGS = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
)
GENRES = tuple(FLAGS.split())
FIRST_WORDS = ("Velvet", "Crooked", "Northern", "Paper", "Hollow", "Golden", "Stolen", "Patient")
SECOND_WORDS = ("Harbour", "Tailor", "Orchard", "Detective", "Comet")
START = 880_000_000


class Rating(NamedTuple):
    user: int
    item: int
    rating: int
    time: int


class Film(NamedTuple):
    item: int
    title: str
    genres: tuple[str, ...]


def films(count: int = 40, seed: int = 0) -> list[Film]:
    """Films with distinct titles; the first has accents, the second its article at the end."""
    rng = random.Random(seed)
    found = [
        Film(1, "Caf\u00e9 \u00c9toile (1968)", ("Drama", "Romance")),
        Film(2, "Silent Ferry, The (1971)", ("Crime", "Thriller")),
    ]
    for item in range(3, count + 1):
        place = item - 3
        first = FIRST_WORDS[place % len(FIRST_WORDS)]
        second = SECOND_WORDS[place // len(FIRST_WORDS) % len(SECOND_WORDS)]
        part = place // (len(FIRST_WORDS) * len(SECOND_WORDS))
        name = f"{first} {second}" + (f" {part + 1}" if part else "")
        genres = sorted(rng.sample(GENRES[1:], rng.randint(1, 3)), key=GENRES.index)
        found.append(Film(item, f"{name} ({rng.randint(1950, 1999)})", tuple(genres)))
    return found[:count]


def ratings(users: int = 30, items: int = 40, each: int = 28, seed: int = 0) -> list[Rating]:
    """`each` ratings of every user, shuffled; about nine in ten are 3 or more."""
    rng = random.Random(seed)
    found = []
    for user in range(1, users + 1):
        time = START + rng.randrange(1_000_000)
        for item in rng.sample(range(1, items + 1), min(each, items)):
            time += rng.randrange(1, 5_000)
            found.append(Rating(user, item, rng.choice((1, 2, *([3, 4, 5] * 6))), time))
    rng.shuffle(found)
    return found


def write_ml100k(
    folder: Path,
    *,
    users: int = 30,
    items: int = 40,
    seed: int = 0,
    rows: Sequence[Rating] | None = None,
    catalogue: Sequence[Film] | None = None,
) -> Path:
    """Write u.data, u.item and u.user; `rows` and `catalogue` replace the generated ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ratings(users, items, seed=seed) if rows is None else rows
    catalogue = films(items, seed) if catalogue is None else catalogue
    _write(folder / "u.data", ["\t".join(map(str, row)) for row in rows])
    _write(folder / "u.item", [_item_row(film) for film in catalogue])
    people = sorted({row.user for row in rows})
    _write(folder / "u.user", [f"{user}|30|F|other|00000" for user in people])
    return folder


def write_ml1m(
    folder: Path,
    *,
    users: int = 30,
    items: int = 40,
    seed: int = 0,
    rows: Sequence[Rating] | None = None,
    catalogue: Sequence[Film] | None = None,
) -> Path:
    """Write ratings.dat, movies.dat and users.dat: the same data as `write_ml100k` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ratings(users, items, seed=seed) if rows is None else rows
    catalogue = films(items, seed) if catalogue is None else catalogue
    _write(folder / "ratings.dat", ["::".join(map(str, row)) for row in rows])
    lines = [f"{film.item}::{film.title}::{'|'.join(film.genres)}" for film in catalogue]
    _write(folder / "movies.dat", lines)
    people = sorted({row.user for row in rows})
    _write(folder / "users.dat", [f"{user}::F::25::0::00000" for user in people])
    return folder


def _item_row(film: Film) -> str:
    flags = ["1" if genre in film.genres else "0" for genre in GENRES]
    return "|".join([str(film.item), film.title, "01-Jan-1990", "", "http://example.org", *flags])


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
