"""The people of INSPIRED (Hayati et al., EMNLP 2020), from `seeker_demographic.tsv` and
`seeker_personality.tsv`, with one seeker per line.

- If a seeker answered twice, the last answers count, as in RSO's code.
- Lines of demographics with shifted columns are left out: their age is not one.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agents.core.errors import DataError
from simulators.core.seekers import Person
from simulators.domains.core.files import read_content

DEMOGRAPHICS, PERSONALITY = "seeker_demographic.tsv", "seeker_personality.tsv"
_ASKED = ("age_group", "gender", "race", "degree", "job", "marital_status", "political_view",
          "religion")  # fmt: skip
_TRAITS = ("Extrovert", "Agreeable", "Conscientious", "Neurotic", "Open")
_VALUES = ("Conformity", "Tradition", "Benevolence", "Universalism", "Self-Direction",
           "Stimulation", "Hedonism", "Achievement", "Power", "Security", "Rational",
           "Feeling")  # fmt: skip
_AGE = re.compile(r"\d+ - \d+|\d+ or (?:older|younger)")


class People(NamedTuple):
    """All people by the data set's name for them (`user_188`), in the order of the file."""

    known: Mapping[str, Person]
    remarks: Sequence[str]


def read_people(folder: Path) -> People:
    """The people of the two files in `folder`; DataError with file and line for what is malformed.

    Who answered about demographics alone has no traits, and the other way round.
    """
    asked: dict[str, Mapping[str, str]] = {}
    slipped = 0
    for _, row in _rows(folder / DEMOGRAPHICS, ("seeker_id", *_ASKED)):
        if _AGE.fullmatch(row["age_group"]) is None:
            slipped += 1
            continue
        asked[row["seeker_id"]] = {name: row[name] for name in _ASKED if row[name]}
    path = folder / PERSONALITY
    scales: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {}
    for number, row in _rows(path, ("User_ID", *_TRAITS, *_VALUES)):
        traits, values = (
            {name.lower(): _score(path, number, name, row[name], most) for name in names}
            for names, most in ((_TRAITS, 5), (_VALUES, 6))
        )
        scales[row["User_ID"]] = (traits, values)
    known = {
        name: Person(asked.get(name, {}), *scales.get(name, ({}, {})))
        for name in dict.fromkeys([*asked, *scales])
    }
    remarks = []
    if slipped:
        remarks.append(
            f"{slipped:,} lines of {DEMOGRAPHICS} have slipped columns and are left out; these "
            "people have no demographics unless another line has them"
        )
    return People(known, remarks)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line numbers and rows; DataError for a file without these columns, or a short line."""
    lines = read_content(path).decode("utf-8", "replace").splitlines()
    reader = csv.DictReader(lines, delimiter="\t", restval=None)
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}:1: found no column {missing[0]!r}, expected {', '.join(columns)}")
    for row in reader:
        if any(row[name] is None for name in columns):
            raise DataError(
                f"{path}:{reader.line_num}: found fewer columns than in line 1; download it again"
            )
        yield reader.line_num, {name: " ".join(row[name].split()) for name in columns}


def _score(path: Path, line: int, name: str, text: str, most: int) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 1 <= found <= most:
        raise DataError(
            f"{path}:{line}: {name}: found {text!r}, expected a number from 1 to {most}"
        )
    return found
