"""The key of an export, which says what each item of a form is. It stays in the sweep's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agents.core.errors import StoreError, UsageError, near
from analysis.statistics.draws import ANNOTATIONS, SUFFIX, SamplingRecord, sampling_record_of
from runner.annotation.questions import LabelQuestion
from runner.annotation.units import Unit
from sweeps import identity
from sweeps.storage import folder as folders
from sweeps.storage.folder import Folder


class KeyItem(NamedTuple):
    """One item of a form: the columns that identify its unit in `judgements`, and how
    it was shown."""

    columns: Mapping[str, Any]
    swapped: bool
    kind: str


class Key(NamedTuple):
    """Everything needed to unblind one export. `judge` is the plug-in whose questions it asks, or
    `sweeps.judgements.DECISIONS`."""

    name: str
    judge: str
    questions: Sequence[LabelQuestion]
    items: Mapping[str, KeyItem]
    """By the printed codes, in the order shown."""
    drawn: SamplingRecord | None
    """How its cases were chosen; None in keys that did not record it."""

    def asked(self, item: KeyItem) -> list[LabelQuestion]:
        """The questions asked about an item."""
        return [question for question in self.questions if question.kind == item.kind]


def key_of(
    judge: str, questions: Sequence[LabelQuestion], units: Sequence[Unit], drawn: SamplingRecord
) -> Key:
    """The key of these units in this order. Equal exports have equal names and codes."""
    what = [judge, questions, [[unit.digest, unit.swapped] for unit in units]]
    name = identity.digest(what)[:12]
    items = {
        identity.digest([name, unit.digest])[:10]: KeyItem(unit.columns, unit.swapped, unit.kind)
        for unit in units
    }
    return Key(name, judge, questions, items, drawn)


def write_key(folder: Folder, key: Key) -> None:
    """Stores the key in the sweep's folder."""
    content = {
        "judge": key.judge,
        "drawn": None if key.drawn is None else key.drawn._asdict(),
        "questions": [question._asdict() for question in key.questions],
        "items": {code: item._asdict() for code, item in key.items.items()},
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    folders.write(
        folder, f"{ANNOTATIONS}/{key.name}{SUFFIX}", text.encode("utf-8", "surrogatepass")
    )


def read_key(folder: Folder, name: str, where: str) -> Key:
    """The key of the export `name`; `where` is the place to name in errors. Raises UsageError,
    StoreError."""
    files = folder.names(ANNOTATIONS)
    known = [file.removesuffix(SUFFIX) for file in files if file.endswith(SUFFIX)]
    if name not in known:
        raise UsageError(
            f"{where}: {folder} has no export {name!r}{near(name, known)} "
            f"(known: {', '.join(known) or 'none'})"
        )
    path = f"{ANNOTATIONS}/{name}{SUFFIX}"
    try:
        content = json.loads(folders.read(folder, path).decode("utf-8", "surrogatepass"))
        items = {code: KeyItem(**item) for code, item in content["items"].items()}
        questions = [LabelQuestion(**question) for question in content["questions"]]
        return Key(name, content["judge"], questions, items, sampling_record_of(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder}/{path} is damaged ({type(error).__name__}: {error})") from None
