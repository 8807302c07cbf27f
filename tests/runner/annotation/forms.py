"""A sweep to label, and what is exported of it."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

from runner.annotation.export import Exported, write_form
from runner.driver.loading import load_plan_of

CASES = 4
PAIR = {"name": "pairwise", "axis": "agent", "baseline": "zero_shot", "against": ["react"]}
MODELS = {
    "zeta9": {"backend": "rules", "skill": 0.9, "knowledge": 0.8},
    "theta9": {"backend": "rules", "skill": 0.5, "knowledge": 0.4},
}
SWEEP = {
    "name": "moons9",
    "grid": {"agent": ["zero_shot", "react"], "roles.agent": ["zeta9"], "seed": [0, 1]},
    "models": MODELS,
    "roles": {"user": "zeta9", "judge": "theta9"},
    "judges": ["relevance", "intention", PAIR],
    "cases": {"sample": CASES},
}
SALES = {
    "models": {"rules": {"backend": "rules", "skill": 0.6, "knowledge": 0.9}},
    "roles": {"user": "rules", "agent": "rules"},
    "simulator": "csuser",
    "grid": {"agent": ["csi", "chatcrs_sales"], "seed": [0]},
    "cases": {"sample": 4},
    "limits": {"max_turns": 4, "shown_items": 3},
    "metrics": ["sr@4", "swr"],
}
"""Sales agents and buyers with profiles, without judges."""


def exported(sweep: Path, out: Path, **changes) -> Exported:
    given = {"pairs": "agent=zero_shot,react", "judge": None, "where": None, "cases": 3, "seed": 0}
    return write_form(load_plan_of(str(sweep), []), out=out, **{**given, **changes})


def rows_of(path: Path | None) -> list[dict[str, str]]:
    assert path is not None
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


class Page(HTMLParser):
    """What a browser would make of the form: its tags, and the text of each item."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.items: dict[str, str] = {}
        self._item = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._item = dict(attrs)["data-item"] or ""
            self.items[self._item] = ""

    def handle_data(self, data):
        if self._item:
            self.items[self._item] += data
