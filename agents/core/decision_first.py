"""The decision-first paradigm (AF-IRS, section 3): decide, execute, write the response.

`DecisionFirst` is what the paper's baselines share. The last stage, a response written to the
user, is the same for all systems of the paper, so its prompt lies in `agents/core/prompts`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from agents.core.agent import Agent, AgentContext, AgentOptions
from agents.core.ask import Ask
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounding import TitleIndex
from agents.core.items import Catalogue, Item
from agents.core.steps import ReplyModel, Step, Title, text

MAX_TITLES = 20  # bound of the reply schema; how many are wanted stands in the prompt


class Recommendation(ReplyModel):
    titles: Annotated[
        list[Title],
        Field(min_length=1, max_length=MAX_TITLES, description="titles as text, best first"),
    ]


class Question(ReplyModel):
    question: Annotated[str, text(300, "one question to the user")]


class Response(ReplyModel):
    # Ten titles as long as they may be, and a reason for each.
    response: Annotated[str, text(3000, "the words to say to the user")]


RECOMMEND = Step("recommend", "rank", Recommendation)
ASK = Step("ask", "ask", Question)
RESPOND = Step("respond", "verbalise", Response)


class GroundedTitles(NamedTuple):
    """What named titles turned out to mean.

    `items` are distinct, in the order named. `matches` holds (title, item id, score) of every
    inexact match; `ungrounded` the titles that mean none of the items there were to name.
    """

    items: tuple[Item, ...]
    matches: list[tuple[str, str, float]]
    ungrounded: list[str]

    def extra(self) -> dict[str, Any]:
        """For the turn's record."""
        return {
            "titles_grounded": len(self.items),
            "titles_ungrounded": self.ungrounded,
            "titles_matched": self.matches,
        }


def ground(
    titles: Iterable[str], catalogue: Catalogue, among: Sequence[Item] | None = None
) -> GroundedTitles:
    """Each title's item by `agents.core.grounding`; an item named twice counts once.

    `among` are the items that there were to choose from, if not the whole catalogue.
    """
    choices = catalogue.items if among is None else among
    index = catalogue.titles if among is None else TitleIndex([item.title for item in among])
    items: dict[str, Item] = {}
    matches: list[tuple[str, str, float]] = []
    ungrounded: list[str] = []
    for title in titles:
        found = index.ground(title)
        if found is None:
            ungrounded.append(title)
            continue
        item = choices[found.place]
        items.setdefault(item.id, item)
        if found.score < 100:
            matches.append((title, item.id, found.score))
    return GroundedTitles(tuple(items.values()), matches, ungrounded)


async def write(
    context: AgentContext,
    dialogue: Dialogue,
    ask: Ask,
    *,
    items: tuple[Item, ...] = (),
    question: str = "",
) -> str:
    """The response to the user: the last stage of every system of the paper (section 3)."""
    reply = await ask(
        RESPOND,
        noun=context.catalogue.noun,
        conversation=dialogue.messages,
        items=items,
        question=question,
    )
    return reply.response


class DecisionFirstOptions(AgentOptions):
    history_items: Annotated[int, Field(ge=0, le=200)] = 10
    """How many of the user's latest items the prompts show."""


class DecisionFirst(Agent):
    """Decides on the words so far, then names items by title from what the model knows."""

    Options = DecisionFirstOptions
    options: DecisionFirstOptions

    @abstractmethod
    async def decide(self, dialogue: Dialogue, ask: Ask) -> Literal["recommend", "ask"]: ...

    def extra_fields(self) -> dict[str, Any]:
        """Fields that this system's own recommend and ask prompts use besides the common ones."""
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
        words = await write(self.context, dialogue, ask, question=question.question)
        return AgentTurn(words, "ask")

    async def _recommend(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        named = await self.name_items(dialogue, ask)
        shown = named.items[: self.context.shown_items]
        words = await write(self.context, dialogue, ask, items=shown)
        return AgentTurn(words, "recommend", shown, named.items, extra=named.extra())

    async def would_recommend(self, dialogue: Dialogue, ask: Ask) -> tuple[Item, ...] | None:
        return (await self.name_items(dialogue, ask)).items

    async def name_items(self, dialogue: Dialogue, ask: Ask) -> GroundedTitles:
        """What to recommend now, best first."""
        reply = await ask(
            RECOMMEND,
            **self.fields(dialogue),
            **self.extra_fields(),
            limit=self.context.shown_items,
        )
        return ground(reply.titles, self.context.catalogue)

    def fields(self, dialogue: Dialogue) -> dict[str, Any]:
        """The fields that every prompt but the response's is given."""
        latest = self.options.history_items
        history = self.context.case.history[-latest:] if latest else ()
        return {
            "noun": self.context.catalogue.noun,
            "history": history,
            "conversation": dialogue.messages,
        }
