"""A sweep to label, and what is exported of it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.annotation.export import Exported, write_form
from runner.driver.loading import load_plan_of
from runner.driver.run import run
from tests.runner.reading import raw
from tests.sweep_files import write_sweep

CASES = 4
NAME = "moons9"
"""The name of every sweep to label, which no form may give away."""
PAIR = {"name": "pairwise", "axis": "agent", "baseline": "zero_shot", "against": ["react"]}
MODELS = {
    "zeta9": {"backend": "rules", "skill": 0.9, "knowledge": 0.8},
    "theta9": {"backend": "rules", "skill": 0.5, "knowledge": 0.4},
}
SWEEP = {
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


def play(folder: Path, sweep: Mapping[str, Any]) -> Path:
    """Plays `sweep` under the name NAME in `folder`, and returns the folder of its results."""
    console = Console(file=io.StringIO())
    given = write_sweep(folder, **sweep)
    assert run(given, [f"name={NAME}"], accept_source_change=False, console=console).left == 0
    return folder / "out"


def secrets_of(sweep: Path) -> set[str]:
    """What identifies a sweep, its cells, their models, and its dialogues."""
    manifest = json.loads((sweep / "manifest.json").read_text())
    episodes = raw(sweep, "episodes")
    config = manifest["config"]
    axes = {
        value for axes in episodes["axes"] for value in dict(axes).values() if not value.isdigit()
    }
    found = {NAME, manifest["name"], str(sweep), *config["models"], *axes}
    found |= {cell["cell_id"] for cell in manifest["cells"]}
    for column in ("case_id", "episode_id", "attempt_id", "transcript_hash"):
        found |= set(episodes[column])
    return found


def leaks(text: str, secrets: Iterable[str]) -> list[str]:
    """Those of `secrets` that a text has: as words, long ones also within a word."""
    return [
        each
        for each in secrets
        if (each in text if len(each) > 4 else re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text))
    ]


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
