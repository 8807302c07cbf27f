"""`crsweep annotate import`: stores the answers of filled-in files as judgements of an annotator.

Everything is read and checked before anything is written. A label that is stored already is
skipped; a different label by the same person on the same unit is refused.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.core.errors import UsageError, near
from analysis.results import Results, sweep_at
from analysis.statistics.agreement import JUDGE, MAJORITY, SIMULATOR
from runner.annotation.export import CHOICES, choices
from runner.annotation.keys import Key, KeyItem, read_key
from runner.annotation.questions import LabelQuestion
from sweeps import identity
from sweeps.judgements import DECISION, DECISION_VALUES, PEOPLE
from sweeps.schema import is_valid_name
from sweeps.storage.folder import Folder
from sweeps.storage.records import JUDGEMENT
from sweeps.tasks import Task
from workers.results.bundles import BundleWriter
from workers.results.lease import FolderLease

_RESERVED = (JUDGE, MAJORITY, PEOPLE, SIMULATOR)
_UNASKED = "-"
_WRITER = "people"


class LabelRow(NamedTuple):
    """One answer of a person. `columns` identify what it is about, `where` is its place
    in a file."""

    columns: Mapping[str, Any]
    judge: str
    dimension: str
    value: float
    where: str


class Imported(NamedTuple):
    new: int
    known: int
    """Labels that were stored already."""
    open: int
    """Questions without an answer."""


def import_files(what: str, files: Sequence[Path], annotator: str) -> Imported:
    """Adds the answers in `files` to the sweep's folder. Raises UsageError and StoreError."""
    folder, _ = sweep_at(what)
    labels: list[LabelRow] = []
    unanswered = 0
    keys: dict[str, Key] = {}
    for file in files:
        found, left = _labels(folder, file, keys)
        labels += found
        unanswered += left
    added = add_labels(folder, labels, annotator)
    return Imported(added, len(labels) - added, unanswered)


def add_labels(folder: Folder, labels: Sequence[LabelRow], annotator: str) -> int:
    """Stores the new labels of one person, and returns how many there were.

    Raises UsageError, before anything is written, for an invalid name, and if two labels on the
    same unit differ.
    """
    if not is_valid_name(annotator) or annotator.lower() in _RESERVED:
        raise UsageError(
            f"--annotator {annotator!r}: expected at most 100 letters, digits, '.', '_' and '-', "
            f"and none of the names {', '.join(_RESERVED)}"
        )
    lease = FolderLease.take(folder)
    try:
        new = _new(folder, labels, annotator)
        if new:
            now = time.time()
            rows = [
                _row(Task(JUDGEMENT, task, 0, None), label, annotator, lease.epoch, now)
                for task, label in new.items()
            ]
            BundleWriter(folder, lease.epoch, _WRITER).write({"judgements": rows})
    finally:
        lease.release()
    return len(new)


def _new(folder: Folder, labels: Sequence[LabelRow], annotator: str) -> dict[str, LabelRow]:
    """The labels that the folder does not have, by task."""
    stored: dict[str, float] = dict(
        Results.open(folder)
        .query("SELECT task_id, value FROM all_judgements WHERE annotator = ?", [annotator])
        .fetchall()
    )
    new: dict[str, LabelRow] = {}
    for label in labels:
        about = {name: value for name, value in label.columns.items() if name not in _ATTEMPTS}
        task = identity.digest([PEOPLE, annotator, label.judge, about, label.dimension])
        before = stored.get(task) if task in stored else None
        if task in new:
            before = new[task].value
        if before is not None and before != label.value:
            raise UsageError(
                f"{label.where}: {label.dimension}: {annotator} has answered this with another "
                "label before; nothing is imported"
            )
        if before is None:
            new[task] = label
    return new


_ATTEMPTS = ("attempt_id", "other_attempt_id")
"""Left out of a unit's identity: another attempt with the same text is the same unit."""


def _row(task: Task, label: LabelRow, annotator: str, epoch: int, now: float) -> dict[str, Any]:
    return {
        **label.columns,
        "judgement_id": identity.digest([task.id]),
        "task_id": task.id,
        "judging_id": task.attempt_id(epoch),
        "judge": label.judge,
        "judge_digest": PEOPLE,
        "dimension": label.dimension,
        "sample": 0,
        "order": None,
        "status": "valid",
        "value": label.value,
        "reason": None,
        "blame": None,
        "error_class": None,
        "error": None,
        "annotator": annotator,
        "calls": 0,
        "started": now,
        "ended": now,
    }


def _labels(folder: Folder, file: Path, keys: dict[str, Key]) -> tuple[list[LabelRow], int]:
    """The labels in a file, and how many questions about its items are unanswered."""
    rows = _rows(file)
    labels: list[LabelRow] = []
    unanswered = 0
    seen: dict[tuple[str, str], str] = {}
    for number, row in rows:
        where = f"{file}:{number}"
        export, code = row["export"].strip(), row["item"].strip()
        if export not in keys:
            keys[export] = read_key(folder, export, where)
        key = keys[export]
        if code not in key.items:
            raise UsageError(
                f"{where}: the export {export} has no item {code!r}{near(code, key.items)}"
            )
        if (export, code) in seen:
            raise UsageError(
                f"{where}: the item {code} is listed twice, first in {seen[export, code]}"
            )
        seen[export, code] = where
        item = key.items[code]
        asked = {question.name: question for question in key.asked(item)}
        _check_others(key, row, asked, where)
        for name, question in asked.items():
            if name not in row:
                raise UsageError(f"{where}: there is no column {name!r}{near(name, row)}")
            given = row[name].strip()
            if not given:
                unanswered += 1
                continue
            value = _value(question, item, given, where)
            labels.append(LabelRow(item.columns, key.judge, name, value, where))
    return labels, unanswered


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row. Raises UsageError if the file does not contain answers."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not UTF-8 text; save the sheet as CSV (UTF-8)") from None
    head = text.split("\n", 1)[0]
    delimiter = (
        ";" if head.count(";") > head.count(",") else ","
    )  # Some locales of spreadsheets use semicolons.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = list(reader.fieldnames or [])
        if "export" not in names or "item" not in names:
            raise UsageError(
                f"{file}: expected what the form has saved, or the filled-in sheet, with the "
                f"columns export and item; found {', '.join(names[:5]) or 'an empty file'}"
            )
        if len(set(names)) < len(names):
            raise UsageError(f"{file}: a column is listed twice")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(
                    f"{file}:{reader.line_num}: expected {len(names)} cells, as in the first line"
                )
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UsageError(f"{file}:{reader.line_num}: not CSV ({error})") from None
    return rows


def _check_others(
    key: Key, row: Mapping[str, str], asked: Mapping[str, LabelQuestion], where: str
) -> None:
    """Refuses an answer to a question that is not asked about the item."""
    for question in key.questions:
        given = row.get(question.name, "").strip()
        if question.name not in asked and given not in ("", _UNASKED):
            raise UsageError(
                f"{where}: {question.name}: found {given!r}, but the question is not asked about "
                "this item"
            )


def _value(question: LabelQuestion, item: KeyItem, given: str, where: str) -> float:
    """The label as stored in `judgements`; for a pair, from the view of its first side."""
    allowed = choices(question)
    known = {choice.lower(): choice for choice in allowed}
    choice = known.get(given.lower())
    if choice is None:
        expected = ", ".join(allowed)
        raise UsageError(f"{where}: {question.name}: found {given!r}, expected one of {expected}")
    if question.kind == DECISION:
        return float(DECISION_VALUES[choice])
    if question.kind != "pair":
        return float(choice)
    of_a = 1 - CHOICES.index(choice) / 2
    return 1 - of_a if item.swapped else of_a
