"""A few dialogues of each cell: the first that succeeds, that does not, and that failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from analysis.report.facts import labels
from analysis.results import Results

MOST = 60
"""Dialogues of a report, whatever the number of cells."""
_TEXT = 4_000  # characters of a message
_ERROR = 1_000


class SampleMessage(NamedTuple):
    """One side of a turn. `items_shown` are: (title or id, target, accepted)."""

    turn: int
    speaker: str
    text: str
    tags: list[str]
    items_shown: list[tuple[str, bool, bool]]


class Sample(NamedTuple):
    label: str
    case: str
    seed: int
    outcome: str
    good: bool | None
    """True for a success, False without one, None for a failed episode."""
    targets: list[str]
    error: str
    messages: list[SampleMessage]


def samples(results: Results, each: int, titles: Mapping[str, Mapping[str, str]]) -> list[Sample]:
    """At most `each` dialogues of every outcome and cell, in the order of cases; `MOST` in all.

    `titles` has those of the items that are known, by source and id.
    """
    if each < 1:
        return []
    heads = results.arrow(
        "SELECT attempt_id, cell, position, case_id, seed, status, success, success_turn, "
        "stop_reason, turns, targets, blame, error_class, error FROM episodes "
        "QUALIFY row_number() OVER (PARTITION BY cell, status, success "
        f"ORDER BY position, seed, seed_training, seed_order) <= {int(each)} "
        f"ORDER BY cell, status, success DESC, position, seed LIMIT {MOST}"
    )
    results.db.register("sampled", heads.select(["attempt_id"]))
    turns: dict[str, list[dict[str, Any]]] = {}
    found = results.arrow(
        "SELECT t.attempt_id, t.turn, t.action, t.strategy, t.shown, t.agent_text, t.user_text, "
        "t.user_decision, t.accepted_item, t.user_leaves FROM turns t "
        "SEMI JOIN sampled s ON s.attempt_id = t.attempt_id ORDER BY t.attempt_id, t.turn"
    )
    for row in found.to_pylist():
        turns.setdefault(row["attempt_id"], []).append(row)
    names = labels(results)
    return [
        _sample(
            names[head["cell"]],
            head,
            turns.get(head["attempt_id"], []),
            titles.get(results.manifest.cells[head["cell"]].source_id, {}),
        )
        for head in heads.to_pylist()
    ]


def _sample(
    label: str, head: dict[str, Any], turns: list[dict[str, Any]], titles: Mapping[str, str]
) -> Sample:
    failed = head["status"] != "done"
    if failed:
        outcome = f"failed, blame {head['blame']}"
    elif head["success"]:
        outcome = f"success at turn {head['success_turn']}"
    else:
        outcome = f"no success ({head['stop_reason'].replace('_', ' ')})"
    targets = list(head["targets"] or [])
    error = f"{head['error_class']}: {head['error']}" if failed else ""
    messages = [
        message for turn in turns for message in _messages(turn, frozenset(targets), titles)
    ]
    good = None if failed else head["success"]
    named = [titles.get(item, item) for item in targets]
    return Sample(
        label, head["case_id"], head["seed"], outcome, good, named, _cut(error, _ERROR), messages
    )


def _messages(
    turn: dict[str, Any], targets: frozenset[str], titles: Mapping[str, str]
) -> list[SampleMessage]:
    found = []
    if turn["agent_text"] is not None:
        accepted = turn["accepted_item"]
        items = [
            (titles.get(item, item), item in targets, item == accepted) for item in turn["shown"]
        ]
        tags = [tag for tag in (turn["action"], turn["strategy"]) if tag]
        text = _cut(turn["agent_text"], _TEXT)
        found.append(SampleMessage(turn["turn"], "recommender", text, tags, items))
    tags = [turn["user_decision"]] if turn["user_decision"] else []
    tags += ["leaves"] if turn["user_leaves"] else []
    found.append(SampleMessage(turn["turn"], "user", _cut(turn["user_text"], _TEXT), tags, []))
    return found


def _cut(text: str, most: int) -> str:
    left = len(text) - most
    return text if left <= 0 else f"{text[:most]}… ({left:,} more characters)"
