"""Names of real titles: how many there are, how many match one item, and that none matches another.

A name that is the full title of another item ("Godzilla") matches that item; it is counted
separately.

    DATA_ROOT=/data python -m tests.bench.titles

The table in docs/designs/grounding.md comes from here: all titles of ML-100K and ML-1M, unfiltered,
and ReDial's films (`redial/id2info.json`), where DATA_ROOT has them, and the lists that tests use.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agents.core.grounding import TitleIndex
from agents.core.titles import Name, names_of, parse_title
from simulators.domains.movielens.files import find_layout, read_movie_file
from tests.agents.core.titles import FILMS, GAMES


class Counts(NamedTuple):
    titles: int
    with_names: int
    names: int
    unambiguous: int
    ambiguous: int
    taken: int
    misgrounded: list[str]
    not_themselves: list[str]


def count(titles: Sequence[str]) -> Counts:
    """Grounds every title and every name of it, with its year and without."""
    index = TitleIndex(titles)
    fate: Counter[str] = Counter()
    with_names, misgrounded = 0, []
    for place, title in enumerate(titles):
        names = names_of(title)[1:]
        with_names += bool(names)
        for name in names:
            ways = [index.ground(text) for text in written(name, parse_title(title).year)]
            fate["names"] += 1
            fate["found"] += any(way is not None and way.place == place for way in ways)
            others = {way.place for way in ways if way is not None and way.place != place}
            fate["taken"] += any(owns(titles[other], name.text) for other in others)
            misgrounded += [
                f"{name.text} ({name.kind}) of {title} -> {titles[other]}"
                for other in others
                if not owns(titles[other], name.text)
            ]
    themselves = [
        title
        for place, title in enumerate(titles)
        if (found := index.ground(title)) is None or found.place != place
    ]
    names, found = fate["names"], fate["found"]
    return Counts(
        len(titles),
        with_names,
        names,
        found,
        names - found,
        fate["taken"],
        misgrounded,
        themselves,
    )


def written(name: Name, year: str | None) -> Iterator[str]:
    if not name.needs_year:
        yield name.text
    if year is not None:
        yield f"{name.text} ({year})"


def owns(title: str, name: str) -> bool:
    """Whether `name` is a name of `title` too: then matching another title is no error."""
    own = names_of(title)
    return any(name == other.text for other in own[: 1 + len(parse_title(title).brackets)])


def data_sets(root: Path) -> Iterator[tuple[str, list[str]]]:
    for folder in ("ml-100k", "ml-1m"):
        if (root / folder).is_dir():
            layout = find_layout(root / folder)
            movies = read_movie_file(root / folder / layout.movies, layout)
            yield layout.name, list(dict.fromkeys(movie.title for movie in movies))
    redial = root / "redial" / "id2info.json"
    if redial.is_file():
        films = json.loads(redial.read_text()).values()
        yield "ReDial", list(dict.fromkeys(film["name"] for film in films))
    yield "films of the tests", list(FILMS)
    yield "games of the tests", list(GAMES)


def main() -> None:
    root = Path(os.environ.get("DATA_ROOT", "."))
    print(
        "| data set | titles | with names | names | unambiguous | ambiguous | taken | misgrounded |"
    )
    print("|---|---|---|---|---|---|---|---|")
    notes: list[str] = []
    for name, titles in data_sets(root):
        began = time.perf_counter()
        counts = count(titles)
        notes.append(f"{name}: {time.perf_counter() - began:.1f} s")
        row = [*counts[:6], len(counts.misgrounded)]
        print("|", " | ".join([name, *(f"{number:,}" for number in row)]), "|")
        notes += [f"{name}, misgrounded: {mistake}" for mistake in counts.misgrounded]
        notes += [f"{name}, not itself: {title}" for title in counts.not_themselves]
    print("", *notes, sep="\n")


if __name__ == "__main__":
    main()
