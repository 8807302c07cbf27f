"""The decision-first paradigm (AF-IRS, section 3): decide, execute, write the response.

`DecisionFirst` is shared by the paper's baselines. The last stage, a response to the user, is the
same for all systems of the paper, so its prompt is in `agents/core/prompts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.items import Item
from agents.core.steps import ReplyModel, Step, Title, text

_USUAL = 10  # items shown, where a step is not bounded by what a sweep shows
_ITEM = 300  # characters of a response for each item: its title, and why it suits


class _Decision(ReplyModel):
    action: Annotated[Literal["recommend", "ask"], Field(description="Choose your next action.")]


class Recommendation(ReplyModel):
    titles: Annotated[
        list[Title],
        Field(min_length=1, max_length=_USUAL, description="List the titles, best first."),
    ]


class Question(ReplyModel):
    question: Annotated[str, text(300, "Ask the user one question.")]


class Response(ReplyModel):
    response: Annotated[str, text(_USUAL * _ITEM, "Write your message to the user.")]


CHOOSE_ACTION = Step("decide", "decide", _Decision)
RECOMMEND = Step("recommend", "rank", Recommendation)
ASK = Step("ask", "ask", Question)
RESPOND = Step("respond", "verbalise", Response)


def response_length(context: AgentContext) -> int:
    """The maximum length in characters of a message that presents the items of one turn."""
    return _ITEM * max(2, context.shown_items)


async def write_response(
    context: AgentContext,
    dialogue: Dialogue,
    ask: Ask,
    *,
    items: tuple[Item, ...] = (),
    question: str = "",
    misses: Sequence[str] = (),
) -> str:
    """Writes the response to the user: the last stage of every system of the paper (section 3).

    `misses` are titles that were named and cannot be recommended; the prompt shows them if there is
    nothing to present.
    """
    reply = await ask(
        RESPOND.bounded(response=response_length(context)),
        noun=context.catalogue.noun,
        conversation=dialogue.messages,
        items=items,
        question=question,
        misses=() if items else misses,
    )
    return reply.response


def common_fields(context: AgentContext, dialogue: Dialogue, latest: int) -> dict[str, Any]:
    """Fields of most prompts: the noun, the `latest` items of the history, and the conversation."""
    return {
        "noun": context.catalogue.noun,
        "history": context.case.history[-latest:] if latest else (),
        "conversation": dialogue.messages,
    }


class DecisionFirstOptions(AgentOptions):
    history_items: Annotated[int, Field(ge=0, le=200)] = 10
    """How many of the user's latest items the prompts show."""
    repeat: bool = False
    """Whether items of the user's history, and items shown before, may be recommended."""


class DecisionFirst(Agent):
    """Decides on the conversation so far, then names items by title from what the model knows."""

    Options = DecisionFirstOptions
    options: DecisionFirstOptions

    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]:
        """Whether to recommend in this turn or to ask; by default, the model's `CHOOSE_ACTION`."""
        return (await ask(CHOOSE_ACTION, **self.fields(dialogue))).action

    @property
    def most_named(self) -> int:
        """The maximum number of titles named; by default, as many as may be shown."""
        return self.context.shown_items

    def extra_fields(self) -> dict[str, Any]:
        """Additional fields of this system's own recommend and ask prompts."""
        return {}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        if await self.decide(dialogue, ask) == "recommend":
            return await self._recommend(dialogue, ask)
        question = await ask(
            ASK,
            **self.fields(dialogue),
            **self.extra_fields(),
            attributes=list(self.context.catalogue.attributes),
        )
        words = await write_response(self.context, dialogue, ask, question=question.question)
        return AgentTurn(words, "ask")

    async def _recommend(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        named = await self.name_items(dialogue, ask)
        shown = named.items[: self.context.shown_items]
        words = await write_response(self.context, dialogue, ask, items=shown, misses=named.misses)
        return AgentTurn(words, "recommend", shown, named.items, extra=named.extra())

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        return (await self.name_items(dialogue, ask)).items

    async def name_items(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        """The items to recommend now, best first."""
        reply = await ask(
            RECOMMEND.bounded(titles=self.most_named),
            **self.fields(dialogue),
            **self.extra_fields(),
            limit=self.most_named,
            repeat=self.options.repeat,
        )
        return ground(reply.titles, self.context, dialogue, repeat=self.options.repeat)

    def fields(self, dialogue: Dialogue) -> dict[str, Any]:
        """The fields of every prompt except the response's."""
        return common_fields(self.context, dialogue, self.options.history_items)
