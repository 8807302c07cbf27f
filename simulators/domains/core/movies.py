"""The movies of RSO's data: `id2info.json`, and a knowledge graph over them.

- `id2info.json` maps numbers to objects. `name` or `title` (with `year`) names the movie; `genre`,
  `director`, `writer` and `star` (or `actors`) are lists or texts with commas; `plot`,
  `long_plot` or `short_plot` describes it.
- `kg.json` maps entities to lists of [relation, entity], by the numbers of `entity2id.json` and
  `relation2id.json`. What the graph says of a movie are its attributes; of movies that it lacks,
  those of `id2info.json`.
- Movies of one title are one, the first.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.core.errors import DataError
from agents.core.items import LONGEST_TITLE, Catalogue, Item
from simulators.domains.core.fields import cut, distinct, text_in
from simulators.domains.core.json_files import as_json, read_object

MOVIES = "id2info.json"
GRAPH, ENTITIES, RELATIONS = "kg.json", "entity2id.json", "relation2id.json"
GENRE = "genre"
LONGEST_PLOT = 600
"""Characters. Plots are part of prompts."""
_LISTS = {GENRE: (GENRE,), "director": ("director",), "writer": ("writer",),
          "star": ("star", "actors")}  # fmt: skip
_PLOTS = ("plot", "long_plot", "short_plot")


class Graph(NamedTuple):
    """What a knowledge graph says: entity -> relation -> entities, by their names."""

    facts: Mapping[str, Mapping[str, tuple[str, ...]]]
    entities: int
    triples: int


class Movies(NamedTuple):
    """The catalogue, and the genres of each item as `id2info.json` has them, in lower case."""

    catalogue: Catalogue
    genres: Mapping[str, frozenset[str]]
    graph: Graph
    remarks: Sequence[str]

    def of(self, genres: Sequence[str]) -> tuple[Item, ...]:
        """The items that have all of `genres`."""
        wanted = set(genres)
        return tuple(i for i in self.catalogue.items if wanted <= self.genres[i.id])


def read_movies(folder: Path, *, with_graph: bool) -> Movies:
    """The movies of a folder; DataError with file and movie for what is malformed."""
    graph = read_graph(folder) if with_graph else Graph({}, 0, 0)
    path = folder / MOVIES
    expected = "a JSON object that maps numbers to movies"
    items: dict[str, Item] = {}
    genres: dict[str, frozenset[str]] = {}
    again = covered = 0
    for key, about in read_object(path, expected, dict).items():
        if not isinstance(about, dict):
            raise DataError(f"{path}: movie {key}: found {as_json(about)}, expected an object")
        title = cut(_title(path, key, about), LONGEST_TITLE)
        if normal(title) in items:
            again += 1
            continue
        own = {name: values for name, keys in _LISTS.items() if (values := _listed(about, keys))}
        known = graph.facts.get(title)
        covered += known is not None
        plot = next((text for name in _PLOTS if (text := text_in(about, name))), "")
        items[normal(title)] = Item(key, title, known or own, cut(plot, LONGEST_PLOT))
        genres[key] = frozenset(genre.lower() for genre in own.get(GENRE, ()))
    remarks = []
    if again:
        remarks.append(f"{again:,} movies of {MOVIES} have the title of an earlier one: left out")
    if with_graph and covered < len(items):
        remarks.append(
            f"the knowledge graph has {covered:,} of {len(items):,} movies; what is known of the "
            f"others is in {MOVIES}"
        )
    return Movies(Catalogue([*items.values()], noun="movie"), genres, graph, remarks)


def read_graph(folder: Path) -> Graph:
    """The knowledge graph of a folder; DataError for a number without a meaning."""
    entities, relations = (_names(folder / name) for name in (ENTITIES, RELATIONS))
    path = folder / GRAPH
    facts: dict[str, dict[str, tuple[str, ...]]] = {}
    triples = 0
    order = list(relations.values())
    for key, listed in read_object(path, "a JSON object that maps entities to lists").items():
        found: dict[str, list[str]] = {}
        for pair in listed if isinstance(listed, list) else [listed]:
            if not (isinstance(pair, list) and len(pair) == 2):
                raise DataError(
                    f"{path}: entity {key}: found {as_json(pair)}, expected [relation, entity]"
                )
            relation, entity = (table.get(str(part)) for table, part in
                                zip((relations, entities), pair, strict=True))  # fmt: skip
            if relation is None or entity is None:
                raise DataError(
                    f"{path}: entity {key}: found {as_json(pair)}, expected numbers of "
                    f"{RELATIONS} and {ENTITIES}"
                )
            found.setdefault(relation, []).append(html.unescape(entity))
            triples += 1
        if key not in entities:
            raise DataError(f"{path}: found the entity {key}, which {ENTITIES} does not list")
        facts[entities[key]] = {
            name: distinct(sorted(found[name])) for name in order if name in found
        }
    return Graph(facts, len(entities), triples)


def normal(title: str) -> str:
    """A title as it is compared: without case and needless space."""
    return " ".join(title.split()).casefold()


def _names(path: Path) -> dict[str, str]:
    """Number, as text -> name."""
    found = read_object(path, "a JSON object that maps names to numbers")
    for name, number in found.items():
        if type(number) is not int:  # not isinstance: true is 1
            raise DataError(f"{path}: {name}: found {as_json(number)}, expected a number")
    return {str(number): " ".join(name.split()) for name, number in found.items()}


def _title(path: Path, key: str, about: Mapping[Any, Any]) -> str:
    name = text_in(about, "name")
    if name:
        return name
    title, year = text_in(about, "title"), about.get("year")
    if not title:
        raise DataError(f"{path}: movie {key}: found no name and no title")
    return f"{title} ({year})" if year else title


def _listed(about: Mapping[Any, Any], keys: Sequence[str]) -> tuple[str, ...]:
    for key in keys:
        values = about.get(key)
        if isinstance(values, str):
            values = values.split(",")
        if isinstance(values, list) and (found := distinct(values)):
            return found
    return ()
