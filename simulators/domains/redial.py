"""ReDial (Li et al., NeurIPS 2018) as RSO uses it: seekers of 198 test dialogues.

- `path` has `redial-test.txt` and `dialog_ids2user_id_and_genre_dict.jsonl` (the 198 dialogues,
  their users and genres, by RSO's authors), `valid_data.jsonl` (ReDial's validation dialogues),
  `id2info.json` and the knowledge graph; `targets: recommended` also needs
  `test_data_processed.jsonl` (the evaluation turns, in iEvaLM's layout).
- The users are those of INSPIRED, whose files are in `people`.
- The splits `train` and `validation` are ReDial's validation dialogues without those tested. Their
  genres are the most frequent ones of the movies that the seeker mentioned and did not dislike.
  Their users are drawn from the people of INSPIRED who have no tested dialogue.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from agents.core.errors import DataError
from agents.core.items import Item
from simulators.core.cases import Published, Split
from simulators.domains.core.files import check_folder, need_file, read_content
from simulators.domains.core.json_files import as_json, object_of
from simulators.domains.core.movies import (
    ENTITIES,
    GRAPH,
    MOVIES,
    RELATIONS,
    Movies,
    normal,
    read_movies,
)
from simulators.domains.core.people import DEMOGRAPHICS, PERSONALITY, People
from simulators.domains.core.seekers import (
    SeekerGoal,
    SeekersDomain,
    SeekersOptions,
    dialogues_in,
    genres_of,
)

__all__ = ["ReDial"]

_TEST, _WANTED = "redial-test.txt", "dialog_ids2user_id_and_genre_dict.jsonl"
_VALID, _TURNS = "valid_data.jsonl", "test_data_processed.jsonl"
_DISLIKED = 0


class _Options(SeekersOptions):
    targets: Literal["genre", "recommended"] = "genre"
    """What counts as found: each movie of the wanted genres, as RSO's authors count, or the one
    that was recommended last in the recorded dialogue. Where a dialogue recommends no movie that is
    listed, it is left out of the second."""


class ReDial(SeekersDomain):
    """Seekers of ReDial: the 198 dialogues that RSO tests on, and others to train on."""

    name = "redial"
    Options = _Options
    options: _Options

    @property
    def dataset(self) -> str:
        return "ReDial"

    def files(self) -> Sequence[Path]:
        options = self.options
        names = [_TEST, _WANTED, _VALID, MOVIES, GRAPH, ENTITIES, RELATIONS]
        names += [_TURNS] if options.targets == "recommended" else []
        for folder in (options.path, options.people):
            if folder is not None:
                check_folder(folder, self.dataset)
        found = [need_file(options.path, name) for name in names]
        if options.people is not None:
            found += [need_file(options.people, name) for name in (DEMOGRAPHICS, PERSONALITY)]
        return found

    def published(self) -> Published:
        return Published(
            "RSO, Table II (the whole data set)",
            {"dialogues": 10_006, "utterances": 182_150, "items": 51_699},
        )

    def read_movies(self) -> Movies:
        self.files()
        return read_movies(self.options.path, with_graph=True)

    def read_seekers(self, split: Split, people: People) -> Mapping[str, SeekerGoal]:
        return self._test() if split == "test" else self._training

    def _test(self) -> dict[str, SeekerGoal]:
        path = self.options.path
        recommended = self._recommended() if self.options.targets == "recommended" else {}
        found: dict[str, SeekerGoal] = {}
        for name, about in self._tested.items():
            genres = genres_of(about, self.options.genres, path / _WANTED)
            if not genres:
                raise DataError(f"{path / _WANTED}: the dialogue {name!r} has no genre")
            found[name] = SeekerGoal(
                str(about["user_id"]), genres, self._only(recommended.get(name))
            )
        return found

    @cached_property
    def _tested(self) -> dict[str, dict[str, Any]]:
        """What is known of the users of the tested dialogues, by dialogue."""
        path = self.options.path
        wanted = dialogues_in(path / _WANTED, "user_id", "genre_dict")
        names = list(dialogues_in(path / _TEST))
        lacking = next((name for name in names if name not in wanted), None)
        if lacking is not None:
            raise DataError(f"{path / _WANTED}: found nothing on the dialogue {lacking!r}")
        return {name: wanted[name] for name in names}

    def _only(self, found: Item | None) -> tuple[Item, ...] | None:
        """The targets of a dialogue in which `found` was recommended last."""
        if self.options.targets == "genre":
            return None
        return () if found is None else (found,)

    def _recommended(self) -> dict[str, Item]:
        """The movie recommended last in each tested dialogue, as far as it is listed."""
        path, titles = self.options.path / _TURNS, self._titles
        found: dict[str, Item] = {}
        for number, row in _objects(path):
            name, listed = str(row.get("dialog_id")), row.get("rec")
            if name not in self._tested:
                continue
            if not isinstance(listed, list):
                raise DataError(f"{path}:{number}: rec: found {as_json(listed)}, expected a list")
            known = [titles[key] for each in listed if (key := normal(str(each))) in titles]
            if known:
                found[name] = known[-1]
        return found

    @cached_property
    def _training(self) -> dict[str, SeekerGoal]:
        """ReDial's validation dialogues that are not tested and mention a movie that is listed.

        Of the tested dialogues it needs the ids and the users, to leave both out.
        """
        path, titles = self.options.path / _VALID, self._titles
        tested = {str(about["user_id"]) for about in self._tested.values()}
        users = [name for name in self._people.known if name not in tested]
        found: dict[str, SeekerGoal] = {}
        for number, row in _objects(path):
            name, mentioned = str(row.get("conversationId")), row.get("movieMentions") or {}
            asked = row.get("initiatorQuestions") or {}
            if not (isinstance(mentioned, dict) and isinstance(asked, dict)):
                raise DataError(f"{path}:{number}: movieMentions: expected an object")
            if name in self._tested:
                continue
            liked: list[Item] = []
            for key, title in mentioned.items():
                about = asked.get(key)
                disliked = isinstance(about, dict) and about.get("liked") == _DISLIKED
                if isinstance(title, str) and normal(title) in titles and not disliked:
                    liked.append(titles[normal(title)])
            counts = Counter(genre for item in liked for genre in self.movies.genres[item.id])
            genres = sorted(counts, key=lambda genre: (-counts[genre], genre))
            user = users[_number(name) % len(users)] if users else ""
            targets = self._only(liked[-1] if liked else None)
            if genres:
                found[name] = SeekerGoal(user, tuple(genres[: self.options.genres]), targets)
        return found

    @property
    def _titles(self) -> Mapping[str, Item]:
        return {normal(item.title): item for item in self.catalogue.items}


def _objects(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line numbers and objects; DataError with the line for one that is none."""
    found = []
    for number, line in enumerate(read_content(path).splitlines(), start=1):
        row = object_of(line)
        if row is None:
            raise DataError(f"{path}:{number}: expected a JSON object; download it again")
        found.append((number, row))
    return found


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
