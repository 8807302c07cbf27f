"""The dialogue loop: the user opens, the agent answers, the user replies, a critic may score, until
a stop reason.

No I/O, retries, logging or storage happens here. The caller passes the `Transcript`, so a dialogue
that an error ends early still leaves its turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from agents.core.agent import Agent
from agents.core.ask import Ask, is_probe
from agents.core.dialogue import (
    AgentTurn,
    Dialogue,
    Message,
    UserTurn,
    usable_agent_turn,
    usable_user_turn,
)
from agents.core.errors import AgentError, CriticError, UserError, blaming
from simulators.core.cases import HiddenCase
from simulators.core.critic import Critic, CriticTurn, usable_critic_turn
from simulators.core.user import User

StopReason = Literal["accepted", "user_left", "critic", "max_turns", "token_budget", "failed"]
SuccessRule = Callable[[AgentTurn, UserTurn, HiddenCase, CriticTurn | None], bool]
"""Decides whether a turn is a success; the last argument is None without a critic."""


class DialogueLimits(NamedTuple):
    """Upper bounds of a dialogue.

    Tokens are input and output of agent and user, without probes.
    """

    max_turns: int
    episode_tokens: int


class Turn(NamedTuple):
    agent: AgentTurn
    user: UserTurn
    critic: CriticTurn | None = None


class Watcher(NamedTuple):
    """A critic and its `Ask`."""

    critic: Critic
    ask: Ask


@dataclass(slots=True)
class Transcript:
    """What happened in one dialogue. `stop_reason` stays "failed" if an error ended it."""

    opening: UserTurn | None = None
    turns: list[Turn] = field(default_factory=list)
    stop_reason: StopReason = "failed"
    success_turn: int | None = None
    """The first turn, from 1, that the success rule accepted."""

    @property
    def accepted(self) -> UserTurn | None:
        """The user's turn that accepted, if there is one."""
        return next((t.user for t in self.turns if t.user.decision == "accept"), None)


async def run_dialogue(
    agent: Agent,
    user: User,
    ask_agent: Ask,
    ask_user: Ask,
    *,
    hidden: HiddenCase,
    limits: DialogueLimits,
    is_success: SuccessRule,
    probe: bool,
    transcript: Transcript,
    watcher: Watcher | None = None,
) -> None:
    """Plays one dialogue into `transcript`.

    A success is recorded but does not end the dialogue: only the two sides and the critic do, so
    different success rules can be evaluated on one dialogue. With `probe`, an asking agent that
    reported no ranking is asked what it would have recommended.
    """
    messages: list[Message] = []
    to_agent = Dialogue(messages, agent.options.history_turns)
    to_user = Dialogue(messages, user.options.history_turns)
    journal = ask_agent.journal
    with blaming(UserError):
        opening = usable_user_turn(await user.open(ask_user))
    transcript.opening = opening
    messages.append(Message("user", opening.text))

    while transcript.stop_reason == "failed":
        journal.turn = to_agent.turn
        with blaming(AgentError):
            most = agent.context.shown_items
            answer = usable_agent_turn(await agent.respond(to_agent, ask_agent), most)
            if probe and answer.action == "ask" and answer.ranking is None:
                probed = await _probed(answer, agent, to_agent, ask_agent)
                answer = usable_agent_turn(probed, most)
        messages.append(Message("recommender", answer.text, answer.shown))
        with blaming(UserError):
            reply = usable_user_turn(await user.reply(to_user, ask_user))
        messages.append(Message("user", reply.text))

        seen = None if watcher is None else await _seen(watcher, messages)
        transcript.turns.append(Turn(answer, reply, seen))
        if transcript.success_turn is None:
            with blaming(CriticError):
                succeeded = is_success(answer, reply, hidden, seen)
            if succeeded:
                transcript.success_turn = len(transcript.turns)
        if reply.decision == "accept":
            transcript.stop_reason = "accepted"
        elif reply.leaves:
            transcript.stop_reason = "user_left"
        elif seen is not None and seen.above:
            transcript.stop_reason = "critic"
        elif len(transcript.turns) >= limits.max_turns:
            transcript.stop_reason = "max_turns"
        elif journal.tokens(_counts) >= limits.episode_tokens:
            transcript.stop_reason = "token_budget"


async def _probed(answer: AgentTurn, agent: Agent, dialogue: Dialogue, ask: Ask) -> AgentTurn:
    ranking = await agent.would_recommend(dialogue, ask.probing())
    return replace(answer, ranking=ranking)


async def _seen(watcher: Watcher, messages: list[Message]) -> CriticTurn:
    """The critic's verdict on the latest turn. The critic receives a copy of the messages."""
    critic = watcher.critic
    dialogue = Dialogue(messages.copy(), critic.options.history_turns)
    with blaming(CriticError):
        return usable_critic_turn(await critic.after_turn(dialogue, watcher.ask))


def _counts(role: str) -> bool:
    """Whether tokens of `role` count towards the limit of the dialogue."""
    return not is_probe(role) and not role.startswith("critic")
