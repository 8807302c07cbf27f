"""The labelled dialogues that a policy is fine-tuned on: the layout in which RSO's authors publish
INSPIRED.

A folder has `inspired-train.txt` and `inspired-valid.txt`, one JSON object per line: `dialog_id`,
and `dialog`, a list of `text`, `speaker` (RECOMMENDER or SEEKER) and `strategy` (a label, or NaN
for the seeker). `inspired-test.txt` is never opened here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from agents.core.dialogue import Message
from agents.core.errors import DataError, near
from agents.core.text import repaired
from agents.policies.core.labels import INSPIRED

Part = Literal["train", "valid"]
PARTS: tuple[Part, ...] = ("train", "valid")
_SPEAKERS = {"RECOMMENDER": "recommender", "SEEKER": "user"}
_MARKS = {"QUOTATION_MARK": '"'}


class Example(NamedTuple):
    """A state (eq. 6: s_t) and the label of the recommender's next utterance (h'_t)."""

    state: str
    label: str
    dialogue: str
    """The id of its dialogue."""


def file_of(folder: str | Path, part: Part) -> Path:
    """The file of one part."""
    return Path(folder) / f"inspired-{part}.txt"


def state_of(messages: Sequence[Message]) -> str:
    """The state of a dialogue, as policies read it: one line per utterance, oldest first.

    Policies keep the end of it, as far as their context reaches.
    """
    return "\n".join(f"{m.speaker}: {' '.join(m.text.split())}" for m in messages)


def examples(folder: str | Path, part: Part) -> list[Example]:
    """The state before each labelled utterance of the recommender. DataError."""
    found = []
    for dialogue, utterances in _dialogues(file_of(folder, part)):
        said: list[Message] = []
        for message, label in utterances:
            if label is not None:
                found.append(Example(state_of(said), label, dialogue))
            said.append(message)
    return found


def data_digest(folder: str | Path) -> str:
    """Hex BLAKE2b-128 of what training reads. OSError where a file cannot be read."""
    stats = tuple((file_of(folder, p), file_of(folder, p).stat()) for p in PARTS)
    return _digest(tuple((path, s.st_size, s.st_mtime_ns) for path, s in stats))


@lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path, size, _ in files:
        digest.update(f"{path.name}\0{size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _dialogues(path: Path) -> Iterator[tuple[str, list[tuple[Message, str | None]]]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            one = json.loads(line)
            name, dialogue = str(one["dialog_id"]), list(one["dialog"])
            yield name, [_utterance(each, where) for each in dialogue]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: expected an object with `dialog_id` and `dialog`, a list of `text`, "
                f"`speaker` and `strategy` ({type(error).__name__}: {error})"
            ) from None


def _utterance(given: dict[str, object], where: str) -> tuple[Message, str | None]:
    speaker, label = str(given["speaker"]), str(given["strategy"])
    if speaker not in _SPEAKERS:
        raise DataError(f"{where}: expected the speaker RECOMMENDER or SEEKER, found {speaker!r}")
    text = repaired(str(given["text"]))
    for mark, sign in _MARKS.items():
        text = text.replace(mark, sign)
    message = Message(_SPEAKERS[speaker], text)  # type: ignore[arg-type]
    if speaker == "SEEKER":
        return message, None
    if label not in INSPIRED:
        raise DataError(
            f"{where}: unknown strategy {label!r}{near(label, INSPIRED)} "
            f"(known: {', '.join(INSPIRED)})"
        )
    return message, label
