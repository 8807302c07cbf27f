"""Dialogues recorded elsewhere, as cases that `recorded` replays, so that judges can read them.

- A reader of `simulators.recordings` parses the file.
- The catalogue consists of the items shown in the dialogues. There are no interactions, and nothing
  to train on.
- Recordings do not state actions: a reply with items counts as `recommend`, any other as `chat`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from agents.core import plugins
from agents.core.dialogue import AgentTurn, UserTurn
from agents.core.errors import DataError
from agents.core.items import Catalogue, Item
from agents.core.paths import FilePath
from agents.core.plugins import Options, operational
from agents.core.replay import RecordedCase
from simulators.core.cases import Case, Domain, RecordedAnswers, Split
from simulators.core.judge import RecordedDialogue
from simulators.core.recordings import RECORDINGS, Label, Recordings, RecordingsReader
from simulators.domains.core.files import short

__all__ = ["RecordingsDomain"]


class RecordingsOptions(Options):
    """Options of the domain `recordings`."""

    path: FilePath = operational(...)
    """The file, or the folder in which the reader finds it."""
    reader: str = operational("json_lines")
    """The reader: of the import format, or of a published layout."""


class _Loaded(NamedTuple):
    found: Recordings
    played: Mapping[str, RecordedDialogue]
    """Dialogues with a reply."""
    catalogue: Catalogue


class RecordingsDomain(Domain):
    """Recorded dialogues. Its cases are dialogues with at least one reply."""

    Options = RecordingsOptions

    def __init__(self, options: RecordingsOptions) -> None:
        self.options = options

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        hashes = [[name, d.transcript_hash] for name, d in self._found.dialogues.items()]
        text = json.dumps(["recordings", self.version, hashes], separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def catalogue(self) -> Catalogue:
        """All items that were shown, in any of the dialogues."""
        return self._loaded.catalogue

    def case_ids(self, split: Split) -> Sequence[str]:
        if split != "test":
            raise DataError(f"{self.options.path}: recordings have one split, test; found {split}")
        return self._case_ids

    def case(self, split: Split, case_id: str) -> Case:
        dialogue = self._played.get(case_id)
        if dialogue is None:
            raise DataError(f"{self.options.path}: there is no dialogue {case_id!r}")
        replies = tuple(
            AgentTurn(turn.agent_text, "recommend" if turn.shown else "chat", turn.shown)
            for turn in dialogue.turns
        )
        return Case(RecordedCase(case_id, (), replies), RecordedAnswers((), said=_said(dialogue)))

    def statistics(self) -> dict[str, int]:
        return {
            "dialogues": len(self._played),
            "replies": sum(len(dialogue.turns) for dialogue in self._played.values()),
            "items": len(self.catalogue),
            "labels": len(self.labels()),
        }

    def remarks(self) -> Sequence[str]:
        without = len(self._found.dialogues) - len(self._played)
        return [f"dialogues without a reply, which are left out: {without:,}"] if without else []

    @property
    def replayed_turns(self) -> int:
        return max((len(dialogue.turns) for dialogue in self._played.values()), default=0)

    def labels(self) -> Sequence[Label]:
        return [label for label in self._found.labels if label.dialogue_id in self._played]

    @property
    def _found(self) -> Recordings:
        return self._loaded.found

    @property
    def _played(self) -> Mapping[str, RecordedDialogue]:
        return self._loaded.played

    @cached_property
    def _loaded(self) -> _Loaded:
        path = self.options.path
        read: RecordingsReader = plugins.load(RECORDINGS, self.options.reader, "reader")
        found = read(path)
        played = {name: d for name, d in found.dialogues.items() if d.turns}
        if not played:
            raise DataError(f"{path}: no dialogue has a reply of the recommender")
        return _Loaded(found, played, _catalogue(path, played))

    @cached_property
    def _case_ids(self) -> tuple[str, ...]:
        return tuple(self._played)


def _catalogue(path: Path, dialogues: Mapping[str, RecordedDialogue]) -> Catalogue:
    """Raises DataError for an id whose items have different facts, and for several nouns."""
    items: dict[str, Item] = {}
    nouns: dict[str, str] = {}
    for name, dialogue in dialogues.items():
        nouns.setdefault(dialogue.noun, name)
        for turn in dialogue.turns:
            for item in turn.shown:
                if items.setdefault(item.id, item) != item:
                    raise DataError(
                        f"{path}: {name}: the item {short(item.id)} has other facts in an earlier "
                        "dialogue; an id must name the same item in all of them"
                    )
    if len(nouns) > 1:
        examples = ", ".join(f"{noun} ({name})" for noun, name in list(nouns.items())[:3])
        raise DataError(
            f"{path}: the dialogues have several nouns: {examples}; give each a file of its own"
        )
    return Catalogue(list(items.values()), noun=next(iter(nouns)), may_be_empty=True)


def _said(dialogue: RecordedDialogue) -> tuple[UserTurn, ...]:
    """The user's opening and its answers. An acceptance ends a dialogue, so an earlier one is an
    answer with its item."""
    said = [UserTurn(dialogue.opening or "", "answer")]
    for turn in dialogue.turns:
        last = turn is dialogue.turns[-1]
        accepts = last and turn.accepted is not None
        said.append(
            UserTurn(
                turn.user_text or "",
                "accept" if accepts else "answer",
                turn.accepted,
                leaves=last and not accepts,
            )
        )
    return tuple(said)
