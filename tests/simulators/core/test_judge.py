"""Recorded dialogues, and how verdicts come about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import pytest

from agents.core.ask import Ask, CallLog
from agents.core.dialogue import LEFT_OUT, Message
from agents.core.errors import ContextOverflow, EngineDead, PromptError
from agents.core.steps import Step
from simulators.core.judge import (
    DialogueJudge,
    Dimension,
    JudgeReply,
    RecordedDialogue,
    RecordedTurn,
    Subject,
    Verdict,
    check_same_context,
    scale,
    verdicts_of,
)
from tests.fakes import ITEMS, FakeModel, make_ask

ASKED = RecordedTurn(1, "Which genre?", "ask", (), "Action.", "answer", None)
REFUSED = RecordedTurn(2, "Alien Gardens?", "recommend", ITEMS[3:4], "No.", "refuse", None)
TAKEN = RecordedTurn(3, "Heat Wave?", "recommend", ITEMS[1:3], "Yes.", "accept", ITEMS[1])
DIALOGUE = RecordedDialogue("film", "Hello.", (ASKED, REFUSED, TAKEN))


class Mark(JudgeReply):
    mark: Annotated[int, scale(1, 5, "Rate it.")]


class EveryTurn(DialogueJudge):
    """Marks every turn."""

    steps = (Step("mark", "score", Mark),)

    @classmethod
    def dimensions(cls, options):
        return (Dimension("mark", "turn", 1, 5),)

    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        return [Subject(turn.number) for turn in dialogue.turns]

    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        assert subject.turn is not None
        said = dialogue.turns[subject.turn - 1].agent_text
        reply = ask(self.steps[0], said=said)
        return await verdicts_of(reply, subject, ["mark"], lambda given, name: given.mark)


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "mark.md.j2").write_text("Mark this: {{ said }}")
    return tmp_path


def marks(prompts, reply, dialogue=DIALOGUE, journal=None):
    judge = EveryTurn(EveryTurn.Options())
    ask = make_ask(FakeModel(reply), prompts, role="judge.every_turn", journal=journal)
    return asyncio.run(judge.judge(dialogue, ask))


def test_messages_before_a_turn_end_with_the_users_words():
    assert DIALOGUE.before(1) == [Message("user", "Hello.")]
    assert DIALOGUE.before(3) == [
        Message("user", "Hello."),
        Message("recommender", "Which genre?"),
        Message("user", "Action."),
        Message("recommender", "Alien Gardens?", ITEMS[3:4]),
        Message("user", "No."),
    ]
    assert len(DIALOGUE.messages()) == 7


def test_earlier_turns_are_cut_as_in_the_prompts_of_agents():
    assert DIALOGUE.before(3, 1) == [LEFT_OUT, *DIALOGUE.before(3)[-2:]]
    assert DIALOGUE.before(3, 2) == [LEFT_OUT, *DIALOGUE.before(3)[1:]]
    assert DIALOGUE.before(3, 3) == DIALOGUE.before(3)


def test_a_recording_may_begin_and_end_with_the_recommender():
    turn = RecordedTurn(1, "Hi, what do you like?", None, (), None, None, None)
    recorded = RecordedDialogue("film", None, (turn,))
    assert recorded.messages() == [turn.reply]
    assert recorded.before(1) == []
    assert recorded.last_accepted is None
    assert recorded.last_recommended is None


def test_last_accepted_and_last_recommended_item():
    assert DIALOGUE.last_accepted == (TAKEN, ITEMS[1])
    assert DIALOGUE.last_recommended == (TAKEN, ITEMS[1])
    refused = replace(DIALOGUE, turns=(ASKED, REFUSED))
    assert refused.last_accepted is None
    assert refused.last_recommended == (REFUSED, ITEMS[3])


def test_the_transcript_hash_is_that_of_all_a_judge_may_see():
    same = RecordedDialogue("film", "Hello.", tuple(DIALOGUE.turns))
    assert same.transcript_hash == DIALOGUE.transcript_hash
    edited = replace(ITEMS[1], description="Firefighters in a dry summer.")
    others = [
        replace(DIALOGUE, noun="movie"),
        replace(DIALOGUE, opening="Hello!"),
        replace(DIALOGUE, opening=None),
        replace(DIALOGUE, turns=DIALOGUE.turns[:2]),
        *(
            replace(DIALOGUE, turns=(ASKED, REFUSED, TAKEN._replace(**changed)))
            for changed in (
                {"agent_text": "Heat Wave!"},
                {"action": "persuade"},
                {"shown": ITEMS[1:2]},
                {"shown": (edited, ITEMS[2])},
                {"user_text": "Yes!"},
                {"user_text": None},
                {"user_decision": "answer"},
                {"accepted": ITEMS[2]},
            )
        ),
    ]
    hashes = {DIALOGUE.transcript_hash, *(other.transcript_hash for other in others)}
    assert len(hashes) == 1 + len(others)


def test_a_lone_surrogate_has_a_hash_too():
    assert len(RecordedDialogue("film", "\ud800", ()).transcript_hash) == 32


def test_scripted_replies_become_verdicts_in_the_order_of_the_subjects(prompts):
    given = iter([1, 5, 3])
    verdicts = marks(prompts, lambda call: {"reason": "So.", "mark": next(given)})
    assert verdicts == [
        Verdict(Subject(turn), "mark", value, "valid", "So.")
        for turn, value in ((1, 1), (2, 5), (3, 3))
    ]


def test_a_subject_without_a_valid_reply_is_unparsed_and_the_others_are_not(prompts):
    def reply(call):
        bad = call.turn == 2
        return {"reason": "So.", "mark": 6 if bad else 4}

    journal = CallLog()
    verdicts = marks(prompts, reply, journal=journal)
    assert [(v.value, v.status) for v in verdicts] == [
        (4, "valid"),
        (None, "unparsed"),
        (4, "valid"),
    ]
    assert verdicts[1].reason.startswith("ReplyInvalid: judge.every_turn, step mark")
    assert [(r.call.turn, r.valid) for r in journal.records] == [
        (1, True), (2, False), (2, False), (2, False), (3, True),
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["four", "4", 4.0, 4.5, True, None, 0, 6, [4], {"value": 4}])
def test_only_a_whole_number_on_the_scale_is_a_score(prompts, mark):
    verdicts = marks(prompts, lambda call: {"reason": "So.", "mark": mark})
    assert {(v.value, v.status) for v in verdicts} == {(None, "unparsed")}


def test_a_prompt_that_does_not_fit_is_unparsed(prompts):
    verdicts = marks(prompts, lambda call: ContextOverflow("9,000 tokens, 8,192 fit"))
    assert {v.status for v in verdicts} == {"unparsed"}
    assert verdicts[0].reason == "ContextOverflow: 9,000 tokens, 8,192 fit"


@pytest.mark.parametrize("error", [EngineDead("gone"), PromptError("broken")])
def test_other_errors_are_raised(prompts, error):
    with pytest.raises(type(error)):
        marks(prompts, lambda call: error)


def test_seeds_of_a_subject_do_not_depend_on_the_others(prompts):
    def seeds(dialogue):
        journal = CallLog()
        marks(prompts, lambda call: {"reason": "So.", "mark": 3}, dialogue, journal)
        return {r.call.turn: r.call.seed for r in journal.records}

    class OnlyLast(EveryTurn):
        def subjects(self, dialogue):
            return [Subject(3)]

    journal = CallLog()
    model = FakeModel(lambda call: {"reason": "So.", "mark": 3})
    ask = make_ask(model, prompts, role="judge.every_turn", journal=journal)
    asyncio.run(OnlyLast(OnlyLast.Options()).judge(DIALOGUE, ask))
    assert journal.records[0].call.seed == seeds(DIALOGUE)[3]


def test_replies_are_compared_only_in_one_context():
    other = replace(DIALOGUE, turns=(ASKED, REFUSED, TAKEN._replace(agent_text="Heat!")))
    check_same_context(DIALOGUE, other)
    for broken in (
        replace(DIALOGUE, turns=(ASKED, REFUSED)),
        replace(DIALOGUE, turns=(ASKED, REFUSED._replace(user_text="Why?"), TAKEN)),
        replace(DIALOGUE, opening="Hi."),
        replace(DIALOGUE, turns=()),
    ):
        with pytest.raises(ValueError, match="of a pair"):
            check_same_context(DIALOGUE, broken)
