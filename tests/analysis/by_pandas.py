"""The tables once more, in plain Python over the raw Parquet and none of our SQL."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tests.runner.reading import raw


class Expected(NamedTuple):
    mean: float | None
    std: float | None
    n: int


class Raw(NamedTuple):
    """The episodes that count, by cell and seed, and their turns and calls by attempt."""

    episodes: dict[str, dict[int, list[Any]]]
    turns: dict[str, list[Any]]
    calls: dict[str, list[Any]]
    said: dict[str, list[tuple[int, str | None, dict[str, Any]]]]
    """By attempt, the opening included: turn, the user's decision, and its own record."""


def read(folder: Path, *, complete_only: bool = True) -> Raw:
    manifest = json.loads((folder / "manifest.json").read_text())
    cases = list(pd.read_parquet(folder / "cases" / manifest["cases_file"]).itertuples())
    sample = {s["source_id"]: s["sample"] for s in manifest["sources"]}
    planned = {
        (cell["source_id"], case.case_id) for cell in manifest["cells"] for case in cases
        if case.source_id == cell["source_id"] and case.position < sample[cell["source_id"]]
    }  # fmt: skip
    seeds = {c["cell_id"]: [s[0] for s in c["seeds"]] for c in manifest["cells"]}
    episodes = [
        row
        for row in map(_chosen, _rows(raw(folder, "episodes"), by="episode_id").values())
        if row.cell_id in seeds
        and row.seed in seeds[row.cell_id]
        and (row.source_id, row.case_id) in planned
    ]
    if complete_only:
        # A cell with nothing under some seed would leave nothing of the others.
        begun = {(row.cell_id, row.seed) for row in episodes}
        whole = [cell for cell in seeds if all((cell, seed) in begun for seed in seeds[cell])]
        present = {(r.cell_id, r.case_id, r.seed) for r in episodes}
        complete = {
            case for _, case in planned
            if all((cell, case, seed) in present for cell in whole for seed in seeds[cell])
        }  # fmt: skip
        episodes = [row for row in episodes if row.case_id in complete and row.cell_id in whole]
    by_cell: dict[str, dict[int, list[Any]]] = {}
    for row in episodes:
        by_cell.setdefault(row.cell_id, {}).setdefault(row.seed, []).append(row)
    turns = raw(folder, "turns").sort_values("turn")
    said = {
        attempt: [(t.turn, t.user_decision, json.loads(t.user_extra)) for t in rows]
        for attempt, rows in _rows(turns).items()
    }
    return Raw(by_cell, _rows(turns[turns.turn > 0]), _rows(raw(folder, "calls")), said)


def _rows(frame: pd.DataFrame, by: str = "attempt_id") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in frame.itertuples():
        found.setdefault(str(getattr(row, by)), []).append(row)
    return found


def _chosen(attempts: list[Any]) -> Any:
    """The attempt that counts: the earliest that is done, else the latest."""
    done = [row for row in attempts if row.status == "done"]
    if done:
        return min(done, key=lambda row: (row.driver_epoch, row.ended, row.attempt_id))
    return max(attempts, key=lambda row: (row.driver_epoch, row.ended))


Score = Callable[[Any, Raw], tuple[float, float] | None]  # (num, den); None: undefined


def expected(found: Raw, score: Score, cell_id: str, *, completed: bool = False) -> Expected:
    """Mean and std of the per-seed values, and the episodes behind them."""
    means, n = [], 0
    for episodes in found.episodes.get(cell_id, {}).values():
        pairs = []
        for episode in episodes:
            if episode.status != "done" and (completed or episode.blame != "agent"):
                continue
            pair = score(episode, found)
            if pair is not None and pair[1] > 0:
                pairs.append(pair)
        n += len(pairs)
        if pairs:
            means.append(sum(p[0] for p in pairs) / sum(p[1] for p in pairs))
    if not means:
        return Expected(None, None, n)
    mean = sum(means) / len(means)
    std = None
    if len(means) > 1:
        std = math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) - 1))
    return Expected(mean, std, n)


def sr(turn: int) -> Score:
    return lambda e, _: (float(e.status == "done" and e.success and e.success_turn <= turn), 1)


def at(fail: int | None) -> Score:
    """Failures count T + `fail` turns; None leaves them out."""

    def score(e: Any, _: Raw) -> tuple[float, float] | None:
        if e.status == "done" and e.success:
            return e.success_turn, 1
        return None if fail is None else (e.max_turns + fail, 1)

    return score


def clean(score: Score) -> Score:
    """`score` where only clean successes are successes; undefined where users record no leaks."""

    def rescored(e: Any, found: Raw) -> tuple[float, float] | None:
        own = found.said.get(e.attempt_id, [])
        cell = [other.attempt_id for rows in found.episodes[e.cell_id].values() for other in rows]
        if not any("leak" in record for attempt in ([e.attempt_id] if own else cell)
                   for _, _, record in found.said.get(attempt, [])):  # fmt: skip
            return None
        doubtful = any(
            (record.get("leak") and turn < e.success_turn)
            or (record.get("disagrees") and decision == "accept" and turn == e.success_turn)
            for turn, decision, record in own
        )
        return score(e._replace(success=e.success and not doubtful), found)

    return rescored


def dsr(turn: int, *, pooled: bool) -> Score:
    def score(e: Any, found: Raw) -> tuple[float, float] | None:
        right = []
        for t in found.turns.get(e.attempt_id, []):
            if t.turn > turn or t.action not in ("ask", "recommend"):
                continue
            if t.ranking is None and t.action == "ask":
                return None  # one decision cannot be judged
            would_be = list(t.shown if t.ranking is None else t.ranking)[: e.shown_items]
            hit = bool(set(would_be) & set(e.targets))
            right.append(hit == (t.action == "recommend"))
        if not right:
            return None
        return (sum(right), len(right)) if pooled else (sum(right) / len(right), 1)

    return score


def hr(k: int, *, session: bool) -> Score:
    def score(e: Any, found: Raw) -> tuple[float, float] | None:
        turns = found.turns.get(e.attempt_id, [])
        lists = [list(t.candidates) for t in turns if t.candidates is not None]
        hits = [bool(set(c[:k]) & set(e.targets)) for c in lists]
        if not hits:
            return None
        return (float(any(hits)), 1) if session else (sum(hits), len(hits))

    return score


def ranked(k: int, *, gain: bool) -> Score:
    def score(e: Any, found: Raw) -> tuple[float, float] | None:
        turns = found.turns.get(e.attempt_id, [])
        lists = [list(t.ranking) for t in turns if t.ranking is not None]
        if not lists:
            return None
        places = [i for i, item in enumerate(lists[-1][:k], start=1) if item in set(e.targets)]
        if not places:
            return 0.0, 1
        return (1 / math.log2(places[0] + 1) if gain else 1.0), 1

    return score


def tokens(role: str | None = None) -> Score:
    def score(e: Any, found: Raw) -> tuple[float, float] | None:
        calls = found.calls.get(e.attempt_id, [])
        mine = [
            c for c in calls if c.role == role or (role is None and not c.role.endswith(".probe"))
        ]
        return sum(c.input_tokens + c.output_tokens for c in mine), 1  # output holds thinking

    return score
