"""Decision success rate and hit rate against their definitions in plain Python (AF-IRS, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.results import Results
from analysis.tables.table import make_table
from tests.analysis.builder import SHOWN, Built, grid_of

ITEMS = [f"i{n}" for n in range(SHOWN + 3)]
LISTS = st.lists(st.sampled_from(ITEMS), unique=True)
TURNS = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["recommend", "ask", "chat"]),
        "shown": LISTS.map(lambda items: items[:SHOWN]),
        "ranking": st.none() | LISTS,
        "candidates": st.none() | LISTS,
    }
)
AGENTS, CASES = ("a", "b", "c", "d", "e"), ("u0", "u1", "u2", "u3")
EPISODES = st.lists(
    st.tuples(st.lists(TURNS, max_size=5), st.sets(st.sampled_from(ITEMS), min_size=1, max_size=2)),
    min_size=1,
    max_size=len(CASES),
)
# The folder and its table take most of the time, so each example has several cells.
CELLS = st.tuples(*[EPISODES] * len(AGENTS))
Episode = tuple[list[dict[str, Any]], set[str]]


def measured(cells: Sequence[list[Episode]], *metrics: str) -> list[list[float | None]]:
    """For each cell, what the metrics come to over its episodes."""
    built = Built(grid_of(*AGENTS, backbones=["s"]), seeds=[0], case_ids=list(CASES))
    for cell, episodes in zip(built.cells, cells, strict=True):
        for case_id, (turns, targets) in zip(CASES, episodes, strict=False):
            numbered = [{"turn": n, **turn} for n, turn in enumerate(turns, start=1)]
            built.episode(cell, case_id, 0, turns=numbered, targets=sorted(targets))
    with TemporaryDirectory() as folder:
        results = Results.open(built.write(Path(folder)))
        rows = make_table(results, metrics, complete_only=False).rows
    return [[value.mean for value in row.values] for row in rows]


def decisions(episode: Episode, within: int) -> list[bool] | None:
    """Which decisions were right; None where an asking agent's list is not known."""
    turns, targets = episode
    found = []
    for turn in turns[:within]:
        would_be = turn["ranking"]
        if turn["action"] == "ask" and would_be is None:
            return None
        if turn["action"] != "chat":
            would_be = turn["shown"] if would_be is None else would_be
            hit = bool(targets.intersection(would_be[:SHOWN]))
            found.append(hit == (turn["action"] == "recommend"))
    return found


def mean(values: list[float]) -> Any:
    return pytest.approx(sum(values) / len(values)) if values else None


@settings(max_examples=4)
@given(CELLS, st.integers(1, 5))
def test_decision_success_rate_is_the_share_of_right_decisions(cells, within):
    found = measured(cells, f"dsr_pooled@{within}", f"dsr_dialogue@{within}")
    for episodes, (pooled, by_dialogue) in zip(cells, found, strict=True):
        known = [right for each in episodes if (right := decisions(each, within))]
        assert pooled == mean([right for each in known for right in each])
        assert by_dialogue == mean([sum(each) / len(each) for each in known])


@settings(max_examples=4)
@given(CELLS, st.integers(1, len(ITEMS)))
def test_hit_rate_is_the_share_of_candidate_lists_that_hold_a_target(cells, depth):
    found = measured(cells, f"hr@{depth}_turn", f"hr@{depth}_session")
    for episodes, (by_turn, by_session) in zip(cells, found, strict=True):
        hits = [
            [
                bool(targets.intersection(t["candidates"][:depth]))
                for t in turns
                if t["candidates"] is not None
            ]
            for turns, targets in episodes
        ]
        assert by_turn == mean([hit for each in hits for hit in each])
        assert by_session == mean([any(each) for each in hits if each])
