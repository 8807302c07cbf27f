"""The base classes of judges, which read a recorded dialogue and give verdicts on it.

- A judge sees a dialogue as a `RecordedDialogue`. Targets, needs, strategies, the cell, its seeds
  and the case are not part of that type, so no prompt can show them.
- A `DialogueJudge` judges one dialogue: its turns, an item recommended in it, or all of it. A
  `PairJudge` compares two.
- A judge calls models through `Ask`, so the reply's schema determines what is valid. A reply that
  stays invalid makes only its own verdicts `unparsed`; infrastructure errors are raised.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from agents.core.ask import Ask
from agents.core.dialogue import LEFT_OUT, Action, Message, UserDecision
from agents.core.errors import ContextOverflow, ReplyInvalid
from agents.core.items import Item
from agents.core.paths import PathText
from agents.core.plugins import Options, operational
from agents.core.steps import ReplyModel, Step, text

JUDGES = "simulators.judges"

SubjectKind = Literal["turn", "recommendation", "dialogue", "pair"]
Status = Literal["valid", "unparsed"]
Order = Literal["ab", "ba"]


class RecordedTurn(NamedTuple):
    """One reply of the recommender and the user's answer.

    `number` counts from 1. `action` and `user_decision` are None if a recording does not state
    them, `user_text` if it ends with the recommender's message.
    """

    number: int
    agent_text: str
    action: Action | None
    shown: tuple[Item, ...]
    user_text: str | None
    user_decision: UserDecision | None
    accepted: Item | None

    @property
    def reply(self) -> Message:
        """The recommender's message with the items shown."""
        return Message("recommender", self.agent_text, self.shown)


@dataclass(frozen=True)
class RecordedDialogue:
    """What was said in a finished dialogue, and nothing else.

    `noun` is the word for its items ("movie"). `opening` is None if the recommender spoke first.
    Turns are numbered from 1.
    """

    noun: str
    opening: str | None
    turns: tuple[RecordedTurn, ...]

    @cached_property
    def transcript_hash(self) -> str:
        """BLAKE2b-128 (hex) of canonical JSON of everything that a judge may see, including item
        facts.

        Dialogues that differ only in case, cell, seed or attempt have the same hash.
        """
        seen = {
            "noun": self.noun,
            "opening": self.opening,
            "turns": [
                [
                    turn.number,
                    turn.agent_text,
                    turn.action,
                    [_identity(item) for item in turn.shown],
                    turn.user_text,
                    turn.user_decision,
                    None if turn.accepted is None else _identity(turn.accepted),
                ]
                for turn in self.turns
            ],
        }
        canonical = json.dumps(seen, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        data = canonical.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    def before(self, turn: int, latest: int | None = None) -> list[Message]:
        """The messages before the recommender's reply of `turn`.

        With `latest`, only the last so many turns, after a note that others are left out.
        """
        return self._messages(self.turns[: turn - 1], latest)

    def messages(self, latest: int | None = None) -> list[Message]:
        """All messages; with `latest` as in `before`."""
        return self._messages(self.turns, latest)

    def turn_of(self, subject: Subject) -> RecordedTurn:
        """The turn of `subject`. Raises ValueError if it is the whole dialogue."""
        if subject.turn is None:
            raise ValueError("the whole dialogue is not a turn")
        return self.turns[subject.turn - 1]

    @property
    def last_accepted(self) -> tuple[RecordedTurn, Item] | None:
        """The item that the user accepted last, and the turn; None if there is none."""
        found = ((t, t.accepted) for t in reversed(self.turns) if t.accepted is not None)
        return next(found, None)

    @property
    def last_recommended(self) -> tuple[RecordedTurn, Item] | None:
        """The first item of the last list shown, and its turn; None if there is none."""
        return next(((t, t.shown[0]) for t in reversed(self.turns) if t.shown), None)

    @property
    def last_shown(self) -> tuple[Item, ...]:
        """The items of the last list shown; empty if there is none."""
        return next((t.shown for t in reversed(self.turns) if t.shown), ())

    def spoken_of(self, turn: RecordedTurn) -> tuple[Item, ...]:
        """The items that the claims of `turn` refer to.

        These are the items shown in it, or, if it persuades without showing any, those shown last
        before.
        """
        if turn.shown or turn.action != "persuade":
            return turn.shown
        earlier = reversed(self.turns[: turn.number - 1])
        return next((t.shown for t in earlier if t.shown), ())

    def _messages(self, turns: Sequence[RecordedTurn], latest: int | None) -> list[Message]:
        found: list[Message] = [] if self.opening is None else [Message("user", self.opening)]
        # The opening is a separate turn, as in the prompts of agents and users.
        if latest is not None and latest < len(turns) + len(found):
            found, turns = [LEFT_OUT], turns[-latest:]
        for turn in turns:
            found.append(turn.reply)
            if turn.user_text is not None:
                found.append(Message("user", turn.user_text))
        return found


class Subject(NamedTuple):
    """The subject of a verdict: a turn, an item at a turn, or with neither the whole dialogue.

    For a pair of replies it is the turn of the replies, for a pair of dialogues it is empty.
    """

    turn: int | None = None
    item: Item | None = None


class Stage(NamedTuple):
    """What may be shown for one dimension, if each is judged on different information.

    The item's name is always shown; then either what was said about it, or its facts.
    """

    dimension: str
    title: str
    said: tuple[Message, ...] = ()
    items: tuple[Item, ...] = ()


class Dimension(NamedTuple):
    """A scored dimension, with a scale from `low` to `high`, both included."""

    name: str
    kind: SubjectKind
    low: float
    high: float


class Verdict(NamedTuple):
    """One judgement. `value` is None exactly if it is `unparsed`, without a valid reply.

    - `reason`: the judge's own words; for an unparsed verdict, why there is none.
    - `order`: for a pair, which side was presented as A: "ab" the first, "ba" the second. `value`
      is always that of the first side: 1 wins, 0 loses, 0.5 ties.
    """

    subject: Subject
    dimension: str
    value: float | None
    status: Status
    reason: str
    order: Order | Literal[""] = ""


class JudgeOptions(Options):
    """Options that every judge has. How often it is asked (`samples`) is not one of them."""

    prompts: PathText | None = operational(None, description="folder of prompts to use instead")


class HistoryOptions(JudgeOptions):
    """Options of judges whose prompts show what was said before."""

    history_turns: Annotated[int, Field(ge=1)] | None = None
    """Prompts show only the last so many turns of a dialogue, and say so. None: all of them."""


class PairOptions(HistoryOptions):
    """Options that every judge of pairs has.

    The compared pairs are not part of a verdict's identity, so adding opponents reruns nothing.
    """

    pairs: Literal["response", "dialogue"] = "response"
    """What to compare: the next reply of two agents in one stored context (DESIRE, Table 5), or two
    dialogues with the same case and seed (CSI, Figure 4)."""
    axis: str = operational("agent")
    """The axis whose values are compared."""
    baseline: str = operational(...)
    """The value whose wins are counted."""
    against: Annotated[tuple[str, ...], Field(min_length=1)] = operational(...)
    """Its opponents, each compared with the baseline."""


class JudgeReply(ReplyModel):
    """Base class of judges' reply schemas. The reason comes first, so that models think before they
    score."""

    reason: Annotated[str, text(400, "Give your reason in one or two sentences.")]


R = TypeVar("R", bound=JudgeReply)


def scale(low: int, high: int, description: str) -> Any:
    """The field of a score: `Annotated[int, scale(1, 5, "Rate how clear the reply is.")]`.

    Strict: "4", true and 4.0 are not scores.
    """
    return Field(ge=low, le=high, strict=True, description=description)


class Judge(ABC):
    """The base class of all judges. One instance serves any number of dialogues and
    keeps no state."""

    Options: ClassVar[type[JudgeOptions]] = JudgeOptions
    version: ClassVar[int] = 1
    """Raise it when a code change alters what is judged or asked, so that judgements are made
    again."""
    roles: ClassVar[tuple[str, ...]] = ("judge",)
    """Its only role, which the driver turns into `judge.NAME`."""
    steps: ClassVar[tuple[Step[Any], ...]]
    """Every step that it may use."""

    def __init__(self, options: JudgeOptions) -> None:
        self.options = options

    @classmethod
    @abstractmethod
    def dimensions(cls, options: Any) -> tuple[Dimension, ...]:
        """The dimensions it scores with these options, with their scales."""


class DialogueJudge(Judge):
    """A judge of single dialogues."""

    @abstractmethod
    def subjects(self, dialogue: RecordedDialogue) -> Sequence[Subject]:
        """What to judge. If it is empty, no call is made."""

    def stages(self, dialogue: RecordedDialogue, subject: Subject) -> Sequence[Stage]:
        """What is shown for each dimension, in order; empty if all are judged on the same
        information.

        A form for people shows them in this order.
        """
        return ()

    @abstractmethod
    async def judge_subject(
        self, dialogue: RecordedDialogue, subject: Subject, ask: Ask
    ) -> Sequence[Verdict]:
        """One verdict on `subject` for each dimension of its kind.

        `ask` belongs to this judge; its scope is the dialogue's transcript hash, and its sampling
        seed the sample's number. Raises the engine errors and PromptError.
        """

    async def judge(self, dialogue: RecordedDialogue, ask: Ask) -> list[Verdict]:
        """Verdicts on all subjects, one after the other.

        A call belongs to its subject's turn (0: the whole dialogue), so its seed does not depend on
        the other subjects.
        """
        verdicts: list[Verdict] = []
        for subject in self.subjects(dialogue):
            ask.journal.turn = subject.turn or 0
            verdicts += await self.judge_subject(dialogue, subject, ask)
        return verdicts


class PairJudge(Judge):
    """A judge of pairs."""

    Options = PairOptions
    options: PairOptions

    @abstractmethod
    async def compare(
        self, first: RecordedDialogue, second: RecordedDialogue, order: Order, ask: Ask
    ) -> Sequence[Verdict]:
        """One verdict for each dimension, with the two sides presented in `order`.

        With `pairs: response`, the two dialogues are equal except for the recommender's reply of
        their last turn, which is compared; see `check_same_context`. This method is called once for
        each order. Raises the same errors as `DialogueJudge.judge_subject`.
        """


def check_same_context(first: RecordedDialogue, second: RecordedDialogue) -> None:
    """Raises ValueError unless the dialogues are equal up to the recommender's last reply."""
    if not first.turns or len(first.turns) != len(second.turns):
        raise ValueError("the two replies of a pair belong to different turns")
    same = (first.noun, first.opening) == (second.noun, second.opening)
    if not same or first.turns[:-1] != second.turns[:-1]:
        raise ValueError("the two replies of a pair do not continue the same dialogue")


def items_of_both(one: Sequence[Item], other: Sequence[Item]) -> list[Item]:
    """Each item once, sorted by title so that the order favours neither side of a pair."""
    items = {item.id: item for item in (*one, *other)}
    return sorted(items.values(), key=lambda item: (item.title, item.id))


async def verdicts_of(
    reply: Awaitable[R],
    subject: Subject,
    dimensions: Sequence[str],
    value: Callable[[R, str], float],
    order: Order | Literal[""] = "",
) -> list[Verdict]:
    """A verdict for each dimension from one `reply`; `value` reads a dimension's value from it.

    All are unparsed if the reply stays invalid, or if the prompt does not fit the model's context,
    because both would repeat. All other errors are raised.
    """
    try:
        given = await reply
    except (ReplyInvalid, ContextOverflow) as error:
        why = f"{type(error).__name__}: {error.message}"
        return [Verdict(subject, name, None, "unparsed", why, order) for name in dimensions]
    return [
        Verdict(subject, name, float(value(given, name)), "valid", given.reason, order)
        for name in dimensions
    ]


def _identity(item: Item) -> list[Any]:
    attributes = {name: list(values) for name, values in item.attributes.items()}
    return [item.id, item.title, attributes, item.description, item.price]
