"""CSUSER (CSI, section 2.1 and Table 13): a buyer with the profile of a real one.

It speaks and decides from its profile: general preference, target needs, purchase reasons, category
path, expected prices, decision-making style and dialogue openness. It learns of items from the
recommender alone. It expects prices within its budget, may be persuaded beyond, and ends the
dialogue by buying.

Decided here:

- The paper has one prompt and reads the word STOP. Here every prompt has the same instructions, and
  once items have been shown the reply has a field for the ID of the item to buy. A reply that names
  an item which was never shown buys nothing; it is recorded (`refused_purchase`), and the dialogue
  goes on. An item is also recognised by its title (`bought_by`).
- In the released dialogues the opening ends with the price range, whatever the model says. So it is
  added to the opening here (`states_budget`).
- What the prompts list of the items shown so far is what released suggestions say of them: ID,
  title, price, category path and description, and the facts of the catalogue.
- `may_leave: false` is the paper's user, which cannot leave.
- `records_similarity` records how similar a purchase is to the latest target (Figure 9). The paper
  measures which item is "semantically closer" and does not say by which model: `similarity: dense`
  is the cosine of embeddings by the role `user.retriever`, of the texts that B.3 embeds; `lexical`
  (BM25) needs no weights.
- The ablations of Figure 9 leave components out of the prompts, and the instruction to decide by a
  component that is left out; everything else stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from agents.core.ask import Ask
from agents.core.dialogue import Dialogue, UserTurn
from agents.core.errors import UserError
from agents.core.items import Fact, Item
from agents.core.steps import ReplyModel, Step, text
from agents.tools.retrieval import Lexical, RetrieverName, embedded, retrieval_text
from simulators.core.profiles import BuyerProfile
from simulators.core.user import User, UserContext, UserOptions

__all__ = ["CSUser"]

# Table 5, in our words.
_OPENNESS = {
    "Active": "You talk openly. Give detailed reasons for what you like and dislike.",
    "Neutral": "You answer what you are asked in a sentence or two, without going into detail.",
    "Passive": "You say little. Answer in a few words, and give no reasons unless you are asked.",
}
_STYLES = {
    "Rational": "You decide by the facts: look at product details, compare the options, and buy "
    "only for good reasons.",
    "Dependent": "You rely on other people: ratings, reviews and recommendations decide what you "
    "buy.",
    "Intuitive": "You decide by feeling and by past experience, without analysing every detail.",
}

_Words = Annotated[str, text(600, "Write your next message to the recommender.")]
_Leaves = Annotated[bool, Field(description="Set this to true only to end the conversation now.")]


class _Opening(ReplyModel):
    words: _Words


class _Answer(ReplyModel):
    words: _Words


class _AnswerOrLeave(_Answer):
    leaves: _Leaves


class _Decision(ReplyModel):
    reason: Annotated[
        str,
        text(300, "Say to yourself whether an item convinces you, and if not, what is missing."),
    ]
    buys: Annotated[
        list[Annotated[str, text(200)]],
        Field(
            max_length=1,
            description="Give the ID of the item that you decide to buy; leave the list empty to "
            "buy none yet.",
        ),
    ]
    words: _Words


class _DecisionOrLeave(_Decision):
    leaves: _Leaves


_OPEN = Step("open", "verbalise", _Opening)
_ANSWER = Step("answer", "verbalise", _Answer)
_DECIDE = Step("decide", "choose", _Decision)
_ANSWER_OR_LEAVE = replace(_ANSWER, reply=_AnswerOrLeave)
_DECIDE_OR_LEAVE = replace(_DECIDE, reply=_DecisionOrLeave)


class _Options(UserOptions):
    may_leave: bool = False
    """Whether the user may end the dialogue without buying. In Table 13 it cannot."""
    states_budget: bool = True
    """Whether the opening ends with the price range, as in the released dialogues."""
    general_preference: bool = True
    """`false` is Figure 9's "w/o general preference"."""
    purchase_reason: bool = True
    """`false` is Figure 9's "w/o purchase reason"."""
    target_needs: bool = True
    """`false` is Figure 9's "w/o target needs"."""
    personality: bool = True
    """`false` is Figure 9's "w/o personality": neither decision-making style nor openness."""
    records_similarity: bool = False
    """Whether a purchase records how similar the item is to the latest target (Figure 9)."""
    similarity: RetrieverName = "lexical"
    """How that is measured; `dense` embeds both items by the role `user.retriever`."""

    @model_validator(mode="after")
    def _similarity_is_recorded(self) -> Self:
        if self.similarity != "lexical" and not self.records_similarity:
            raise ValueError("`similarity` needs `records_similarity: true`")
        return self


class CSUser(User):
    """Buys an item that suits its profile, if the recommender convinces it."""

    version = 3
    Options = _Options
    options: _Options
    needs_profiles = True
    embedding_roles = ("user.retriever",)
    steps = (_OPEN, _ANSWER, _DECIDE, _ANSWER_OR_LEAVE, _DECIDE_OR_LEAVE)

    def __init__(self, options: _Options, context: UserContext) -> None:
        super().__init__(options, context)
        profile = context.case.hidden.profile
        if profile is None:
            raise UserError(f"the case {context.case.visible.case_id} has no profile")
        self._profile: BuyerProfile = profile
        self._known = self._fields()

    @classmethod
    def roles_of(cls, options: _Options) -> tuple[str, ...]:
        return (*cls.roles, *cls.embedding_roles) if options.similarity == "dense" else cls.roles

    def portrait(self) -> tuple[str, ...]:
        known, budget = self._known, self._profile.budget
        return (
            *known["preferences"],
            f"Your category path: {' > '.join(self._profile.category_path)}",
            f"Your expected price range: ${budget.lowest:.2f} to ${budget.highest:.2f}",
            *(trait for trait in (known["openness"], known["style"]) if trait),
        )

    async def open(self, ask: Ask) -> UserTurn:
        reply = await ask(_OPEN, **self._known, conversation=[])
        words = reply.words
        if self.options.states_budget:
            low, high = self._profile.budget
            words = f"{words.rstrip()} My expected price range is ${low:.2f} to ${high:.2f}."
        return UserTurn(words, "answer", extra={"knew": self._knew()})

    async def reply(self, dialogue: Dialogue, ask: Ask) -> UserTurn:
        shown = _shown_in(dialogue)
        fields = {**self._known, "conversation": dialogue.messages}
        leave = self.options.may_leave
        if not shown:
            answer = await ask(_ANSWER_OR_LEAVE if leave else _ANSWER, **fields)
            return UserTurn(answer.words, "answer", leaves=getattr(answer, "leaves", False))
        items = tuple(found for found, _ in shown.values())
        step = _DECIDE_OR_LEAVE if leave else _DECIDE
        decided = await ask(step, **fields, items=items)
        turn = self._decided(decided, shown, bool(dialogue.shown))
        if turn.accepted is not None and self.options.records_similarity:
            similarity = await self._similarity(turn.accepted, ask)
            return replace(turn, extra={**turn.extra, "target_similarity": similarity})
        return turn

    async def _similarity(self, item: Item, ask: Ask) -> float | None:
        """Of the item's text and that of the latest target; None without a target.

        The cosine of their embeddings, or BM25 divided by that of the target for itself.
        """
        targets, catalogue = self.context.case.hidden.targets, self.context.catalogue
        if not targets:
            return None
        if self.options.similarity == "dense":
            texts = [retrieval_text(each) or each.id for each in (targets[-1], item)]
            target, bought = await embedded(ask, texts)
            return float(target @ bought)
        scores = await Lexical.of(catalogue).by_item(targets[-1])
        own = float(scores[catalogue.position[targets[-1].id]])
        return float(scores[catalogue.position[item.id]]) / own if own > 0 else None

    def _decided(
        self, decided: _Decision, shown: Mapping[str, tuple[Item, list[int]]], offered: bool
    ) -> UserTurn:
        """The turn, with what was decided on. `offered` says whether this turn showed items."""
        extra: dict[str, Any] = {"why": decided.reason, "offers": self._offers(shown)}
        leaves = getattr(decided, "leaves", False)
        if not decided.buys:
            return UserTurn(
                decided.words, "refuse" if offered else "answer", leaves=leaves, extra=extra
            )
        named = decided.buys[0].strip()
        item, how = self._bought(named, [item for item, _ in shown.values()])
        if item is None:
            extra["refused_purchase"] = named
            return UserTurn(decided.words, "refuse", leaves=leaves, extra=extra)
        extra |= {
            "bought_by": how,
            "price": item.price,
            "over_budget": self._exceeds(item),
            "budget": list(self._profile.budget),
            "shown_in": shown[item.id][1],
            "accepted_target": item in self.context.case.hidden.targets,
        }
        return UserTurn(decided.words, "accept", item, extra=extra)

    def _offers(self, shown: Mapping[str, tuple[Item, list[int]]]) -> list[dict[str, Any]]:
        """For the record of a decision: every item offered so far, in order, and the turns that
        showed it."""
        return [
            {
                "item": item.id,
                "price": item.price,
                "over_budget": self._exceeds(item),
                "shown_in": turns,
            }
            for item, turns in shown.values()
        ]

    def _exceeds(self, item: Item) -> bool | None:
        """Whether the item costs more than the budget; None if its price is unknown."""
        return None if item.price is None else self._profile.budget.exceeded_by(item.price)

    def _bought(self, named: str, shown: Sequence[Item]) -> tuple[Item | None, str]:
        """The item of `shown` that a reply identifies by ID or title."""
        for item in shown:
            if item.id == named.strip("()[]<>\"' "):
                return item, "id"
        catalogue = self.context.catalogue
        places = {catalogue.position[item.id] for item in shown}
        found = catalogue.titles.ground(named, places)
        return (None, "") if found is None else (catalogue.items[found.place], "title")

    def _fields(self) -> dict[str, Any]:
        """The fields of every prompt, as far as the options allow."""
        options, profile = self.options, self._profile
        preferences = []
        if options.general_preference:
            preferences.append(f"What you generally prefer: {profile.general_preference}")
        if options.target_needs:
            preferences.append(f"What you need now: {profile.target_needs}")
        if options.purchase_reason:
            reasons = " ".join(profile.purchase_reasons)
            preferences.append(f"Your reasons for buying: {reasons}")
        return {
            "noun": self.context.catalogue.noun,
            "preferences": preferences,
            "facts": tuple(
                Fact(f"level {level}", name) for level, name in enumerate(profile.category_path, 1)
            ),
            "budget": profile.budget,
            "states_budget": options.states_budget,
            "has_reasons": options.purchase_reason,
            "style": _STYLES[profile.style] if options.personality else "",
            "openness": _OPENNESS[profile.openness] if options.personality else "",
            "may_leave": options.may_leave,
        }

    def _knew(self) -> dict[str, Any]:
        """For the record of the opening: what the prompts gave, and the buyer's groups."""
        profile, options = self._profile, self.options
        components = ("general_preference", "purchase_reason", "target_needs", "personality")
        return {
            "targets": [],
            "facts": [f"category: {' > '.join(profile.category_path)}"],
            "budget": list(profile.budget),
            "components": [name for name in components if getattr(options, name)],
            **profile.groups,
        }


def _shown_in(dialogue: Dialogue) -> dict[str, tuple[Item, list[int]]]:
    """Every item that was shown, in order, and the turns it was shown in."""
    found: dict[str, tuple[Item, list[int]]] = {}
    for place, message in enumerate(dialogue.whole):
        for item in message.shown:
            found.setdefault(item.id, (item, []))[1].append(place // 2 + 1)
    return found
