"""Judges asked by scripts, and what their prompts hold."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agents.core import plugins
from agents.core.ask import CallLog
from agents.core.calls import Call
from agents.core.items import Item
from simulators.core.dialogue import Transcript
from simulators.core.judge import (
    JUDGES,
    DialogueJudge,
    Judge,
    Order,
    PairJudge,
    RecordedDialogue,
    RecordedTurn,
    Verdict,
)
from tests.agents.playing import prompts_of
from tests.fakes import FakeModel, make_ask
from workers.backends.core.replies import Answer, fill

ITEMS = (
    Item("1", "Silent River", {"genre": ("Drama",)}, "A flood comes.", 7.5),
    Item("2", "Heat Wave", {"genre": ("Action", "Thriller")}, "Firefighters meet."),
    Item("3", "Alien Garden", {"genre": ("Horror",)}),
)
TURNS = (
    RecordedTurn(1, "Which genre?", "ask", (), "Action.", "answer", None),
    RecordedTurn(2, "See Silent River.", "recommend", ITEMS[:1], "No.", "refuse", None),
    RecordedTurn(3, "It is worth it, truly.", "persuade", (), "Still no.", "refuse", None),
    RecordedTurn(4, "Heat Wave, with fires!", "recommend", ITEMS[1:], "Yes!", "accept", ITEMS[1]),
)
DIALOGUE = RecordedDialogue("film", "Hello.", TURNS)

PAIRS = {"baseline": "desire", "against": ["intercrs"]}
FENCED = re.compile(r"^<([a-z_]+)>$.*?^</\1>$", re.MULTILINE | re.DOTALL)


def build(name: str, **options: Any) -> Judge:
    """A judge; pair judges are given sides to compare."""
    cls: type[Judge] = plugins.load(JUDGES, name, "judge")
    given = {**PAIRS, **options} if issubclass(cls, PairJudge) else options
    return cls(cls.Options.model_validate(given))


def variants() -> list[tuple[str, dict[str, Any]]]:
    """Every judge with every combination of options that changes its prompts."""
    found: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in plugins.names(JUDGES)]
    found.append(("pairwise", {"pairs": "dialogue"}))
    found.append(("intention", {"item": "last_recommended", "words": "dialogue"}))
    return found


def middling(call: Call) -> str:
    """A valid reply to any step: the middle of every scale."""
    return fill(call.step.schema, Answer(share=0.5, text="Because."))


def run(
    judge: Judge,
    *dialogues: RecordedDialogue,
    reply: Callable[[Call], Any] = middling,
    order: Order = "ab",
    guided: bool = True,
    journal: CallLog | None = None,
    model: Any = None,
) -> tuple[list[Verdict], list[Call]]:
    """The verdicts of a judge on a dialogue, or on a pair, and the calls that it made."""
    name = type(judge).__module__.rpartition(".")[2]
    journal = journal or CallLog()
    before = len(journal.records)
    model = model or FakeModel(reply, guided=guided)
    ask = make_ask(model, prompts_of(JUDGES, name), role=f"judge.{name}", journal=journal)
    if isinstance(judge, DialogueJudge):
        [dialogue] = dialogues
        verdicts = asyncio.run(judge.judge(dialogue, ask))
    else:
        assert isinstance(judge, PairJudge)
        first, second = dialogues
        verdicts = list(asyncio.run(judge.compare(first, second, order, ask)))
    return verdicts, [record.call for record in journal.records[before:]]


def run_any(
    judge: Judge, dialogue: RecordedDialogue, **how: Any
) -> tuple[list[Verdict], list[Call]]:
    """The same; a judge of pairs compares the dialogue with one whose last reply differs."""
    if isinstance(judge, PairJudge):
        *before, last = dialogue.turns
        turns = (*before, last._replace(agent_text="Watch something else."))
        return run(judge, dialogue, replace(dialogue, turns=turns), **how)
    return run(judge, dialogue, **how)


def prompt_of(call: Call) -> str:
    """Everything that a call sends."""
    return "\n".join(message.content for message in call.messages)


def outside(prompt: str) -> str:
    """A prompt without what is fenced in it."""
    return FENCED.sub("(fenced)", prompt)


def recorded(transcript: Transcript, noun: str) -> RecordedDialogue:
    """What judges are given of a dialogue that was just played."""
    assert transcript.opening is not None
    turns = [
        RecordedTurn(
            number,
            turn.agent.text,
            turn.agent.action,
            turn.agent.shown,
            turn.user.text,
            turn.user.decision,
            turn.user.accepted,
        )
        for number, turn in enumerate(transcript.turns, start=1)
    ]
    return RecordedDialogue(noun, transcript.opening.text, tuple(turns))


def by_subject(verdicts: list[Verdict]) -> Mapping[int | None, list[tuple[str, float | None]]]:
    """The dimensions and values of each turn's verdicts."""
    found: dict[int | None, list[tuple[str, float | None]]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.subject.turn, []).append((verdict.dimension, verdict.value))
    return found
