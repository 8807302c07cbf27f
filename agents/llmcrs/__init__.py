"""LLMCRS (AF-IRS, section 5.1.3; Feng et al. 2023, the paper's reference [9]).

Feng et al. divide a turn into four stages: the model detects the sub-task, matches an expert
model to it, the expert executes it, and a response is written from the results. They instruct
the model by a schema of the sub-tasks, by demonstrations, and with the sub-tasks done so far. The
paper says that it "leverages LLMs' internal reasoning abilities to determine actions and invoke
external tools", and that its tool selects the top 50 "from the entire item pool, without
considering user preferences expressed in natural language" (5.4.2).

We decided: of their sub-tasks the two that the paper's actions allow, preference elicitation
(ask) and recommendation. Each has one expert, so that the schema matches them and no call does:
the recommender for recommendation, the language model itself for elicitation. The expert's
candidates are its best by `Recommender.scores`; the model then picks from them, knowing the
conversation. Their fine-tuning by reinforcement (RLPF) is left out: the paper's baselines share
one model as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.agent import AgentContext
from agents.core.ask import Ask
from agents.core.decision_first import ASK, RECOMMEND, RESPOND
from agents.core.dialogue import Dialogue
from agents.core.steps import ReplyModel, Step, text
from agents.tools.candidates import CandidateOptions, PicksFromCandidates

__all__ = ["LLMCRS"]

SubTask = Literal["recommendation", "preference elicitation"]


class _Detected(ReplyModel):
    reason: Annotated[str, text(200, "Say in a few words which sub-task comes next and why.")]
    sub_task: Annotated[SubTask, Field(description="Choose the sub-task.")]


_DETECT = Step("detect", "decide", _Detected)


class _Options(CandidateOptions):
    candidates: Annotated[int, Field(ge=1, le=200)] = 50
    """How many items the recommender gives to the model."""


class LLMCRS(PicksFromCandidates):
    """Detects the sub-task, and lets the recommender propose before the model picks."""

    version = 5
    Options = _Options
    steps = (_DETECT, RECOMMEND, ASK, RESPOND)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._sub_task: SubTask = "preference elicitation"
        self._done: list[str] = []  # one line per turn: their dynamic memory

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        found = await ask(_DETECT, **self.fields(dialogue), done=tuple(self._done))
        self._sub_task = found.sub_task
        self._done.append(f"turn {dialogue.turn}: {found.sub_task} ({found.reason})")
        return "recommend" if found.sub_task == "recommendation" else "ask"

    def record(self) -> tuple[str, dict[str, Any]]:
        return self._sub_task, {}
