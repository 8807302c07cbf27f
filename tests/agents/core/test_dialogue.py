"""A dialogue as one side has it, whole or with its last turns only."""

import pytest

from agents.core.dialogue import Dialogue, Message

NOTE = "earlier turns are left out here"


def words(messages: int, history_turns: int | None) -> list[str]:
    """What prompts show of u0, r1, u1, r2, u2, ..."""
    whole = [
        Message("user" if n % 2 == 0 else "recommender", f"{'ur'[n % 2]}{(n + 1) // 2}")
        for n in range(messages)
    ]
    return [m.text for m in Dialogue(whole, history_turns).messages]


@pytest.mark.parametrize(
    ("messages", "turns", "expected"),
    [
        # An agent is about to speak: the user's words came last.
        (1, 1, ["u0"]),
        (3, 1, [NOTE, "r1", "u1"]),
        (3, 2, ["u0", "r1", "u1"]),
        (7, 2, [NOTE, "r2", "u2", "r3", "u3"]),
        (7, 3, [NOTE, "r1", "u1", "r2", "u2", "r3", "u3"]),
        (7, 4, ["u0", "r1", "u1", "r2", "u2", "r3", "u3"]),
        # A user is about to answer: the turn is open.
        (2, 1, [NOTE, "r1"]),
        (2, 2, ["u0", "r1"]),
        (6, 1, [NOTE, "r3"]),
        (6, 2, [NOTE, "r2", "u2", "r3"]),
        (6, 4, ["u0", "r1", "u1", "r2", "u2", "r3"]),
        (0, 1, []),
        (7, None, ["u0", "r1", "u1", "r2", "u2", "r3", "u3"]),
    ],
)
def test_prompts_show_the_last_turns_and_say_what_is_left_out(messages, turns, expected):
    assert words(messages, turns) == expected


def test_what_is_not_shown_still_counts():
    whole = [Message("user", "a"), Message("recommender", "b"), Message("user", "c")]
    dialogue = Dialogue(whole, history_turns=1)
    assert dialogue.turn == 2
    assert dialogue.whole == whole
