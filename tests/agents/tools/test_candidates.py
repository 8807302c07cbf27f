"""The pool narrows, and what a query yields is reported and counted."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.tools.candidates import CandidatePool, Observation, count_outcomes
from agents.tools.query import CatalogueQuery
from tests.fakes import CASE, CATALOGUE, ITEMS

CONTEXT = AgentContext(CATALOGUE, CASE.visible, 10)  # its history is items 3 and 4
TALK = Dialogue([Message("user", "hi"), Message("recommender", "this?", ITEMS[:1])])
LEVEL = np.zeros(5, np.float32)
TOOL = CatalogueQuery(CATALOGUE)


def ids(pool):
    return [item.id for item in pool.best(LEVEL, 9)]


def test_history_and_what_was_shown_are_left_out_unless_they_may_be_repeated():
    assert ids(CandidatePool(CONTEXT, TALK, repeat=False)) == ["2", "5"]
    assert ids(CandidatePool(CONTEXT, TALK, repeat=True)) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("sql", "outcome", "left"),
    [
        ("SELECT item_id FROM items WHERE decade = '1990s'", "selected", ["2"]),
        ("SELECT item_id FROM items WHERE decade = '1970s'", "empty", ["2", "5"]),
        ("SELECT item_id FROM items WHERE false", "empty", ["2", "5"]),
        ("DROP TABLE items", "refused", ["2", "5"]),
    ],
)
def test_a_query_narrows_the_pool_or_leaves_it_alone(sql, outcome, left):
    pool = CandidatePool(CONTEXT, TALK, repeat=False)
    observation = asyncio.run(pool.query(TOOL, sql))
    assert (observation.outcome, ids(pool), len(pool)) == (outcome, left, len(left))
    assert count_outcomes([observation])[f"queries_{outcome}"] == 1


@given(st.lists(st.floats(-9, 9, width=32), min_size=5, max_size=5), st.integers(1, 7))
def test_the_best_are_as_many_as_there_are_never_padded_and_in_order(values, k):
    scores = np.array(values, np.float32)
    pool = CandidatePool(CONTEXT, TALK, repeat=False)
    found = [CATALOGUE.position[item.id] for item in pool.best(scores, k)]
    assert len(found) == min(k, 2)
    assert set(found) <= {1, 4}
    assert [scores[i] for i in found] == sorted((scores[i] for i in found), reverse=True)
    pool.keep_best(scores, 1)
    assert [CATALOGUE.position[i] for i in ids(pool)] == found[:1]


def test_outcomes_are_counted_apart():
    seen = [Observation("refused", ""), Observation("refused", ""), Observation("empty", "")]
    assert count_outcomes(seen) == {"queries_selected": 0, "queries_empty": 1, "queries_refused": 2}
