"""MACRS (DESIRE, section 4.1.2; Fang et al. 2024, the paper's reference [30]).

Fang et al. specify two parts, all by language models without training. Act planning: three
responder agents (asking, recommending, chit-chatting) each write a candidate for the next message,
and a planner agent, which knows the acts of the dialogue so far, selects one. Reflection on user
feedback, at two levels: after every message of the user, the information level updates a profile of
what the user demands and has browsed, which all responders see; after a recommendation that failed,
the strategy level analyses the turns since the last failure and gives a suggestion to each
responder and corrective experience to the planner.

We decided:

- Items are named from the model's knowledge and grounded, since the cited system is made of
  language models alone and DESIRE mentions no tool.
- The candidate of the recommending agent is a list of titles. The message that presents them is
  written once the planner has selected it, from the grounded titles only, as for our other agents.
  So no message is written for a recommendation that is not made, and none names a title that the
  catalogue lacks.
- A recommendation failed if the user did not accept it, which the agent sees by the dialogue going
  on. The strategy level sees the conversation, the act of every turn, and why earlier
  recommendations failed.
- Suggestions and experiences of all failures stay, the latest `experiences` of them in prompts.
- The list is made in every turn, so it is this turn's ranking whatever the planner selects.
- `sales: true` is CSI's adaptation (section 4.1): the recommending agent retrieves an item in the
  budget and one above it, as `chatcrs_sales` does, and its message persuades by the instructions of
  CSI. CSI's MACRS "follows a similar structure" to ChatCRS, which relies "solely on conversation
  history": so it does not see the user's purchase history, from which the hidden profile was
  written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from agents.core.agent import Agent, AgentContext
from agents.core.artifacts import Recipe
from agents.core.ask import Ask, together
from agents.core.decision_first import (
    ASK,
    RECOMMEND,
    RESPOND,
    DecisionFirstOptions,
    common_fields,
    write_response,
)
from agents.core.dialogue import AgentTurn, Dialogue
from agents.core.grounded_titles import GroundedTitles, ground
from agents.core.sales import SELL
from agents.core.steps import ReplyModel, Step, text
from agents.tools.offers import READ_BUDGET, Offer, find_offer
from agents.tools.retrieval import (
    RETRIEVER_ROLE,
    Retriever,
    RetrieverOptions,
    retriever_needs,
    retriever_of,
    retriever_roles,
)

__all__ = ["MACRS"]

Act = Literal["recommend", "chat", "ask"]


class _Profile(ReplyModel):
    demand: Annotated[str, text(300, "Summarise what the user wants now and does not want.")]
    browsing: Annotated[str, text(300, "Summarise what the user has seen, liked or refused.")]


class _Reflection(ReplyModel):
    cause: Annotated[str, text(300, "Say why the recommendation failed.")]
    asking: Annotated[str, text(200, "Give the asking agent a suggestion.")]
    recommending: Annotated[str, text(200, "Give the recommending agent a suggestion.")]
    chatting: Annotated[str, text(200, "Give the chit-chatting agent a suggestion.")]
    planning: Annotated[str, text(200, "Say what the planner should do differently.")]


class _Chat(ReplyModel):
    message: Annotated[str, text(400, "Write your message to the user.")]


class _Plan(ReplyModel):
    thought: Annotated[str, text(300, "Compare the candidates step by step.")]
    act: Annotated[Act, Field(description="Choose the candidate.")]


_INFORM = Step("inform", "summarise", _Profile)
_REFLECT = Step("reflect", "summarise", _Reflection)
_CHAT = Step("chat", "verbalise", _Chat)
_PLAN = Step("plan", "decide", _Plan)


class _Options(RetrieverOptions, DecisionFirstOptions):
    experiences: Annotated[int, Field(ge=1, le=20)] = 3
    """How many reflections on failures the prompts show."""
    sales: bool = False
    """True is CSI's baseline, which retrieves (`retriever`) and persuades, and sees no history."""

    @model_validator(mode="after")
    def _options_fit_the_variant(self) -> Self:
        if self.vectors is not None and not self.sales:
            raise ValueError("`vectors` needs `sales: true`: only the sales variant retrieves")
        default = type(self).model_fields["history_items"].default
        if self.sales and self.history_items not in (0, default):
            raise ValueError(
                f"`history_items: {self.history_items}` has no effect with `sales: true`: the "
                "sales variant does not see what the user bought before"
            )
        return self


class _Failure(NamedTuple):
    """The reflection on one failed recommendation."""

    turn: int
    reflection: _Reflection


class MACRS(Agent):
    """Three agents propose the next message, a planner selects, and failures are reflected on."""

    Options = _Options
    options: _Options
    version = 5
    roles = ("agent", "agent.responder", "agent.planner", "agent.reflector")
    embedding_roles = (RETRIEVER_ROLE,)
    steps = (_INFORM, _REFLECT, ASK, RECOMMEND, _CHAT, _PLAN, RESPOND, READ_BUDGET, SELL)

    def __init__(self, options: _Options, context: AgentContext) -> None:
        super().__init__(options, context)
        self._profile: _Profile | None = None
        self._failures: list[_Failure] = []
        self._acts: list[Act] = []
        self._retriever = None
        if options.sales:
            catalogue, artifacts = context.catalogue, context.artifacts
            self._retriever = retriever_of(options.retriever, catalogue, artifacts)
        self._offer: Offer | None = None

    @classmethod
    def roles_of(cls, options: _Options) -> tuple[str, ...]:
        return (*cls.roles, *retriever_roles(options.retriever if options.sales else None))

    @classmethod
    def needs(cls, options: _Options) -> Mapping[str, Recipe]:
        return retriever_needs(options.retriever, options.vectors) if options.sales else {}

    async def respond(self, dialogue: Dialogue, ask: Ask) -> AgentTurn:
        await self._reflect(dialogue, ask.as_role("reflector"))
        question, named, chat = await self._candidates(dialogue, ask.as_role("responder"))
        plan = await ask.as_role("planner")(
            _PLAN,
            **self._fields(dialogue),
            acts=tuple(self._acts),
            question=question,
            proposed=named.items,
            sells=self.options.sales,
            chat=chat,
            lessons=self._lessons("planning"),
        )
        self._acts.append(plan.act)
        extra = {**self._record(), "candidates": {"ask": question, "chat": chat}, **named.extra()}
        if plan.act == "recommend" and self._offer is not None:
            return await self._sell(self._offer, extra, dialogue, ask)
        if plan.act == "recommend":
            words = await write_response(
                self.context, dialogue, ask, items=named.items, misses=named.misses
            )
            return AgentTurn(words, "recommend", named.items, named.items, None, plan.act, extra)
        words = question if plan.act == "ask" else chat
        return AgentTurn(words, plan.act, (), named.items, None, plan.act, extra)

    async def _sell(
        self, offer: Offer, extra: dict[str, Any], dialogue: Dialogue, ask: Ask
    ) -> AgentTurn:
        reply = await ask(
            SELL,
            noun=self.context.catalogue.noun,
            conversation=dialogue.messages,
            **offer.fields(),
        )
        items, extra = offer.items, {**extra, **offer.extra()}
        return AgentTurn(reply.sentence, "persuade", items, items, items, reply.strategy, extra)

    async def _reflect(self, dialogue: Dialogue, ask: Ask) -> None:
        """Both levels: the profile in every turn, a reflection after a failed recommendation."""
        self._profile = await ask(_INFORM, **self._fields(dialogue))
        if self._acts and self._acts[-1] == "recommend":
            reflection = await ask(
                _REFLECT,
                **self._fields(dialogue),
                acts=tuple(self._acts),
                lessons=self._lessons("cause"),
            )
            self._failures.append(_Failure(dialogue.turn - 1, reflection))

    async def _candidates(self, dialogue: Dialogue, ask: Ask) -> tuple[str, GroundedTitles, str]:
        """What the asking, the recommending and the chit-chatting agent propose."""
        limit, repeat = self.context.shown_items, self.options.repeat
        properties = list(self.context.catalogue.attributes)
        if self._retriever is not None:
            return await self._sales_candidates(properties, self._retriever, dialogue, ask)
        step = RECOMMEND.bounded(titles=limit)
        question, titles, chat = await together(
            [
                self._propose(ASK, "asking", dialogue, ask, attributes=properties),
                self._propose(step, "recommending", dialogue, ask, limit=limit, repeat=repeat),
                self._propose(_CHAT, "chatting", dialogue, ask),
            ]
        )
        named = ground(titles.titles, self.context, dialogue, repeat=repeat)
        return question.question, named._replace(items=named.items[:limit]), chat.message

    async def _sales_candidates(
        self, properties: list[str], retriever: Retriever, dialogue: Dialogue, ask: Ask
    ) -> tuple[str, GroundedTitles, str]:
        catalogue = self.context.catalogue
        made: list[Any] = await together(
            [
                self._propose(ASK, "asking", dialogue, ask, attributes=properties),
                find_offer(dialogue, retriever, catalogue, ask),
                self._propose(_CHAT, "chatting", dialogue, ask),
            ]
        )
        question, offer, chat = made
        self._offer = offer if offer.items else None
        return question.question, GroundedTitles(offer.items), chat.message

    async def _propose(
        self, step: Step[Any], part: str, dialogue: Dialogue, ask: Ask, **fields: Any
    ) -> Any:
        return await ask(step, **self._fields(dialogue), lessons=self._lessons(part), **fields)

    def _lessons(self, part: str) -> Sequence[str]:
        latest = self._failures[-self.options.experiences :]
        return tuple(getattr(failure.reflection, part) for failure in latest)

    def _fields(self, dialogue: Dialogue) -> dict[str, Any]:
        profile = self._profile
        fields = common_fields(self.context, dialogue, self.options.history_items)
        if self.options.sales:
            del fields["history"]
        return {
            **fields,
            "demand": "" if profile is None else profile.demand,
            "browsing": "" if profile is None else profile.browsing,
        }

    def _record(self) -> dict[str, Any]:
        """What reflection came to by this turn; `reflected` only in the turn that reflects."""
        profile = self._profile
        failed = [f for f in self._failures if f.turn == len(self._acts) - 1]
        return {
            "profile": None if profile is None else profile.model_dump(),
            "reflected": failed[0].reflection.model_dump() if failed else None,
        }
