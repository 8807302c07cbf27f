"""CRSArena-Eval as its authors published it: `crs_arena_eval.json` (Joko and Hasibi, FACE, 2025).

467 dialogues of people with nine recommenders, trained on ReDial and OpenDialKG. Each reply and
each dialogue has one aggregated label per aspect, and a few lack one. Items are named in the text
only, so no message has `shown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.core.errors import DataError
from simulators.core.recordings import Recordings
from simulators.domains.core.files import need_file, open_data, short
from simulators.recordings.core import recordings_of

__all__ = ["crsarena"]

_FILE = "crs_arena_eval.json"
_SPEAKERS = {"USER": "user", "ASST": "recommender"}


def crsarena(path: Path) -> Recordings:
    """The dialogues and labels of the published file, or of the folder that it is in."""
    file = need_file(path, _FILE) if path.is_dir() else path
    with open_data(file) as opened:
        try:
            found = json.load(opened)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: the file is not JSON: {error}") from None
    if not isinstance(found, list):
        kind = type(found).__name__
        raise DataError(f"{file}: found a value of type {kind}, expected a list of dialogues")
    return recordings_of(_records(file, found))


def _records(file: Path, found: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, dialogue in enumerate(found):
        where = f"{file}: dialogue {number}"
        try:
            yield where, _record(dialogue)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: not in the layout of CRSArena-Eval ({type(error).__name__}: {error})"
            ) from None


def _record(dialogue: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": dialogue["conv_id"],
        "noun": "movie",
        "messages": [_message(turn) for turn in dialogue["dialog"]],
        "labels": _present(dialogue.get("dial_level_aggregated")),
    }


def _message(turn: Mapping[str, Any]) -> dict[str, Any]:
    role = turn["role"]
    if role not in _SPEAKERS:
        raise KeyError(f"role {short(str(role))}, expected USER or ASST")
    labels = _present(turn.get("turn_level_aggregated"))
    return {"speaker": _SPEAKERS[role], "text": turn["utterance"], "labels": labels}


def _present(labels: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (labels or {}).items() if value is not None}
