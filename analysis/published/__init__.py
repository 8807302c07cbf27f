"""Published numbers, to compare our results with.

A paper has two files here. `<paper>.csv` has one number per row: `paper`, `table`, `dataset`, `row`
in the paper's terms, `metric` in ours, `value` as printed, `marks` (see `SIGNS`, and `underlined`),
then how the number was obtained, as far as the paper says:

- `backbone`, `temperature` (of the agent's model), `cases` (how many), `repetitions`;
- any setting of a cell by its path in a sweep file (`limits.max_turns`, `agent.candidates`).

`<paper>.yaml` maps the paper's names to our data sets and agents, and lists numbers without a
metric, with the reason (`without_metric`), and differences of those that have one (`remarks`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from agents.core.errors import UsageError, near

_HERE = Path(__file__).parent
SIGNIFICANT, IMPOSSIBLE = "significant", "impossible"
SIGNS = {SIGNIFICANT: "*", "p<0.1": "‡", "p<0.05": "†", IMPOSSIBLE: "!"}
"""How tables show a mark."""
_PLACE = ("paper", "table", "dataset", "row", "metric", "value", "marks")


@dataclass(frozen=True)
class PrintedNumber:
    """A printed number."""

    text: str
    marks: frozenset[str] = frozenset()

    @property
    def value(self) -> float:
        return float(self.text)

    @property
    def marked(self) -> str:
        """As tables show it: `0.81*` is significant according to the paper, `4.40!` is
        impossible."""
        return self.text + "".join(sign for mark, sign in SIGNS.items() if mark in self.marks)


@dataclass(frozen=True)
class PublishedRow:
    """One method on one data set. `settings` are those that the paper states."""

    dataset: str
    row: str
    numbers: Mapping[str, PrintedNumber]  # metric -> what is printed
    settings: Mapping[str, str]


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper. `rows` are in its order, one data set after the other."""

    name: str
    title: str
    marks: Mapping[str, str]  # mark -> what it means
    without_metric: Mapping[str, str]  # number -> why it has no metric here
    remarks: Mapping[str, str]  # number with a metric -> what differs all the same
    rows: list[PublishedRow]
    datasets: Mapping[str, str]  # the paper's name -> the data set's own (`Domain.dataset`)
    agents: Mapping[str, Mapping[str, Any]]  # the paper's row -> agent and options that tell it

    @property
    def metrics(self) -> list[str]:
        """Its metrics that can be compared."""
        found = dict.fromkeys(metric for row in self.rows for metric in row.numbers)
        return [metric for metric in found if metric not in self.without_metric]


def names() -> list[str]:
    """All tables with numbers, as `paper/table`."""
    return [f"{paper}/{table}" for paper in _papers() for table in _mapping(paper)["tables"]]


def read(name: str) -> PublishedTable:
    """The table `paper/table`. Raises UsageError with a near match if there is none."""
    known = names()
    paper, _, table = name.partition("/")
    mapping = _mapping(paper) if paper in _papers() else {}
    if name not in known:
        if table in mapping.get("without_numbers", ()):
            raise UsageError(f"{name}: {mapping['without_numbers'][table]}")
        raise UsageError(
            f"no published table is called {name!r}{near(name, known)} (known: {', '.join(known)})"
        )
    found = mapping["tables"][table]
    return PublishedTable(
        name=name,
        title=f"{mapping['paper']}, {found['title']}",
        marks=found.get("marks", {}),
        without_metric=found.get("without_metric", {}),
        remarks=found.get("remarks", {}),
        rows=_rows(paper, table),
        datasets=found.get("datasets", mapping["datasets"]),
        agents=found["rows"],
    )


def _papers() -> list[str]:
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


@lru_cache
def _mapping(paper: str) -> dict[str, Any]:
    return yaml.safe_load((_HERE / f"{paper}.yaml").read_text(encoding="utf-8"))


def _rows(paper: str, table: str) -> list[PublishedRow]:
    with (_HERE / f"{paper}.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["table"] == table]
    numbers: dict[tuple[str, str], dict[str, PrintedNumber]] = {}
    settings: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        place = (line["dataset"], line["row"])
        number = PrintedNumber(line["value"], frozenset(line["marks"].split()))
        numbers.setdefault(place, {})[line["metric"]] = number
        settings[place] = {k: v for k, v in line.items() if k not in _PLACE and v}
    return [PublishedRow(*place, numbers[place], settings[place]) for place in numbers]
