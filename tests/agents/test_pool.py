"""What may still be recommended in a dialogue."""

from hypothesis import given
from hypothesis import strategies as st

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.items import VisibleCase
from agents.recommenders.core import pool
from tests.fakes import CATALOGUE, ITEMS

some_items = st.lists(st.sampled_from(ITEMS), max_size=5).map(tuple)


@given(some_items, st.lists(some_items, max_size=3), st.none() | st.integers(1, 3))
def test_history_and_everything_shown_are_left_out_whatever_prompts_still_show(
    history, lists, history_turns
):
    whole = [Message("user", "hello")]
    for shown in lists:
        whole += [Message("recommender", "these", shown), Message("user", "no")]
    context = AgentContext(CATALOGUE, VisibleCase("u1", history), 10)
    dialogue = Dialogue(whole, history_turns)
    gone = {item.id for items in (history, *lists) for item in items}
    left = pool(context, dialogue, repeat=False)
    assert [item for item, may in zip(ITEMS, left, strict=True) if may] == [
        item for item in ITEMS if item.id not in gone
    ]
    assert pool(context, dialogue, repeat=True).all()
