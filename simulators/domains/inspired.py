"""INSPIRED (Hayati et al., EMNLP 2020) as RSO uses it: seekers of movies, with their people.

- `path` has `inspired-train.txt`, `inspired-valid.txt`, `inspired-test.txt` (one dialogue per line,
  with `user_id` and `genre_dict`) and `dialog_ids2user_id_and_genre_dict.jsonl`, the wanted genres
  of the test dialogues, in the layout of RSO's authors.
- Its movies (`id2info.json`) and graph are not part of that; `movies` is the folder that has them.
  ReDial's can stand in.
- A dialogue without a known genre wants `action`, as in RSO's code; those of the validation split
  have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from agents.core.paths import FilePath
from agents.core.plugins import operational
from simulators.core.cases import Published, Split
from simulators.domains.core.files import check_folder, need_file
from simulators.domains.core.movies import ENTITIES, GRAPH, MOVIES, RELATIONS, Movies, read_movies
from simulators.domains.core.people import DEMOGRAPHICS, PERSONALITY, People
from simulators.domains.core.seekers import (
    NO_GENRE,
    SeekerGoal,
    SeekersDomain,
    SeekersOptions,
    dialogues_in,
    genres_of,
)

__all__ = ["Inspired"]

_WANTED = "dialog_ids2user_id_and_genre_dict.jsonl"
_FILES: Mapping[Split, str] = {
    "train": "inspired-train.txt",
    "validation": "inspired-valid.txt",
    "test": "inspired-test.txt",
}


class _Options(SeekersOptions):
    movies: FilePath | None = operational(None)
    """The folder of id2info.json and, if there is a graph, of kg.json with its names; `path`
    without it. Their hashes are part of identity."""


class Inspired(SeekersDomain):
    """Seekers of INSPIRED: 801 to train on, 99 to validate, 99 to test."""

    name = "inspired"
    Options = _Options
    options: _Options

    @property
    def dataset(self) -> str:
        return "INSPIRED"

    @property
    def _movies_in(self) -> Path:
        return self.options.movies or self.options.path

    @property
    def _has_graph(self) -> bool:
        return (self._movies_in / GRAPH).exists()

    def files(self) -> Sequence[Path]:
        options = self.options
        for folder in (options.path, self._movies_in, options.people):
            if folder is not None:
                check_folder(folder, self.dataset)
        found = [need_file(options.path, name) for name in (*_FILES.values(), _WANTED)]
        names = (MOVIES, *((GRAPH, ENTITIES, RELATIONS) if self._has_graph else ()))
        found += [need_file(self._movies_in, name) for name in names]
        if options.people is not None:
            found += [need_file(options.people, name) for name in (DEMOGRAPHICS, PERSONALITY)]
        return found

    def published(self) -> Published:
        return Published(
            "RSO, Table II", {"dialogues": 1_001, "utterances": 35_811, "items": 1_783}
        )

    def read_movies(self) -> Movies:
        self.files()
        return read_movies(self._movies_in, with_graph=self._has_graph)

    def read_seekers(self, split: Split, people: People) -> Mapping[str, SeekerGoal]:
        path, most = self.options.path, self.options.genres
        wanted = dialogues_in(path / _WANTED, "genre_dict") if split == "test" else {}
        rows = dialogues_in(path / _FILES[split], "user_id")
        given = {
            key: genres_of({**row, **wanted.get(key, {})}, most, path / _FILES[split])
            for key, row in rows.items()
        }
        unknown = sum(not genres for genres in given.values())
        if unknown:
            self._without_genre.append(
                f"{unknown:,} of {len(rows):,} dialogues of the split {split} have no known "
                f"genre; their seekers want {NO_GENRE}"
            )
        return {
            key: SeekerGoal(str(row["user_id"]), given[key] or (NO_GENRE,))
            for key, row in rows.items()
        }

    @cached_property
    def _without_genre(self) -> list[str]:
        return []

    def remarks(self) -> Sequence[str]:
        return [*super().remarks(), *self._without_genre]
