"""Profiles of buyers, written by a model from their reviews (CSI, A.2, A.3, Tables 10 to 12).

Three calls for each user, by the role `user.profiler`:

- `preference` (Table 10) reads the history: the general preference.
- `openness` (Table 11) reads the reviews of the history: the dialogue openness.
- `needs` (Table 12) reads the targets: a purchase reason and a decision-making style for each, the
  overall style, and the target needs.

Category path and budget come from the targets (`simulators.domains.amazon_2023`).

Decided here:

- A.2 infers personality from the history; Table 12 asks for the decision-making style together with
  the purchase reasons of the targets. We follow Table 12.
- A prompt has at most the `items` latest purchases, and reviews are cut at 1,000 characters. A user
  without a history is described by the targets.
- Table 11's "Less Active" is called Neutral, as in Tables 2 and 5.
- A text that names an item that its user bought, in full or in part (`naming`), is asked for again,
  at most twice, with the words that named it. Such leaks are counted.
- A user of whom no valid profile comes is left out and counted.

Calls are seeded by the user, not by the artifact: with more users, the calls of the others are the
same, and the call cache answers them.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

from pydantic import Field

from agents.core.artifacts import CallsRecipe, Content
from agents.core.ask import Ask, together
from agents.core.errors import ReplyInvalid
from agents.core.items import Catalogue, Item
from agents.core.prompts import PromptFolder
from agents.core.steps import ReplyModel, Step, text
from simulators.core.profiles import BuyerBudget, BuyerProfile, Openness, Style
from simulators.domains.core.fields import cut
from simulators.domains.core.profile_files import as_record
from simulators.domains.core.profiling.naming import ItemNames

MOST_ITEMS = 10  # of one prompt; bounds the reply to `needs`
_LONGEST_REVIEW = 1000  # characters
_TRIES = 3  # of a text that names an item
_AT_ONCE = 128  # users
_REHEARSED = 3  # users

R = TypeVar("R", bound=ReplyModel)


class Purchase(NamedTuple):
    """An item that a user bought, and the review. `rating` is from 1 to 5 stars."""

    item: Item
    rating: float
    review_title: str
    review: str


class ReviewedBuyer(NamedTuple):
    """A buyer with the reviews that profiles are written from. Purchases are in time order."""

    user: str
    history: Sequence[Purchase]
    targets: Sequence[Purchase]
    category_path: Sequence[str]
    budget: BuyerBudget


class ReviewedDomain(Protocol):
    """A domain whose users have written reviews."""

    @property
    def catalogue(self) -> Catalogue: ...

    @abstractmethod
    def reviewers(self) -> Sequence[str]:
        """The users that profiles are wanted of, in a fixed order."""

    @abstractmethod
    def buyers(self, users: Sequence[str]) -> list[ReviewedBuyer]:
        """What is known of some of them. DataError."""


class _Preference(ReplyModel):
    likes: Annotated[
        str, text(600, "Describe what you generally like, including the features you value most.")
    ]
    dislikes: Annotated[
        str, text(600, "Describe what you generally dislike, including recurring complaints.")
    ]
    general_preference: Annotated[
        str, text(1000, "Summarise your general preferences. Begin with 'I generally prefer'.")
    ]


class _Openness(ReplyModel):
    dialogue_openness: Annotated[
        Openness, Field(description="Choose how openly you express your opinions.")
    ]


class _Reason(ReplyModel):
    purchase_reason: Annotated[str, text(500, "Say why you bought this item, without naming it.")]
    decision_making_style: Annotated[
        Style, Field(description="Choose the style in which you decided.")
    ]


class _Needs(ReplyModel):
    analysis: Annotated[
        list[_Reason],
        Field(
            min_length=1,
            max_length=MOST_ITEMS,
            description="Write one entry for each item, in the order of the list.",
        ),
    ]
    overall_decision_making_style: Annotated[
        Style, Field(description="Choose the style that dominates across all items.")
    ]
    target_needs: Annotated[str, text(400, "Describe the main need that you wanted to fulfil.")]


PREFERENCE = Step("preference", "summarise", _Preference)
OPENNESS = Step("openness", "decide", _Openness)
NEEDS = Step("needs", "decide", _Needs)


@dataclass(frozen=True)
class WriteProfiles(CallsRecipe):
    """Writes the profiles of a domain's users.

    `most_users` limits them to the first; `domain` is what a worker builds from.
    """

    most_users: int | None = None
    items: int = MOST_ITEMS
    domain: ReviewedDomain | None = field(default=None, repr=False, compare=False)

    part = "profiler"
    steps = (PREFERENCE, OPENNESS, NEEDS)
    version = 3

    @property
    def role(self) -> str:
        return f"user.{self.part}"

    @property
    def label(self) -> str:
        return "profiles"

    @property
    def prompts(self) -> PromptFolder:
        return PromptFolder(Path(__file__).parent / "prompts")

    def identity(self) -> Mapping[str, Any]:
        return {
            "profiles": {"most_users": self.most_users, "items": self.items},
            "version": self.version,
        }

    def over(self, domain: ReviewedDomain) -> WriteProfiles:
        return replace(self, domain=domain)

    def rehearsal(self, domain: ReviewedDomain) -> tuple[WriteProfiles, float]:
        count = len(self._users(domain))
        few = min(count, _REHEARSED)
        return replace(self, most_users=few), count / max(1, few)

    async def build(
        self, catalogue: Catalogue, ask: Ask, report: Callable[[int, int], None]
    ) -> Content:
        assert self.domain is not None
        buyers = await asyncio.to_thread(self.domain.buyers, self._users(self.domain))
        writing = _Writing(catalogue, self.items, report, len(buyers) * len(self.steps))
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(buyer: ReviewedBuyer) -> BuyerProfile | str:
            async with room:
                found = await writing.profile(buyer, replace(ask, scope=f"u{buyer.user}"))
            writing.tell()
            return found

        found = await together(one(buyer) for buyer in buyers)
        written = dict(zip((buyer.user for buyer in buyers), found, strict=True))
        profiles = {u: as_record(u, p) for u, p in written.items() if not isinstance(p, str)}
        left_out = {user: reason for user, reason in written.items() if isinstance(reason, str)}
        if not profiles:
            reason = next(iter(left_out.values()), "there is no user")
            raise ReplyInvalid(f"no profile could be written: {reason}", blame="user")
        return Content({"profiles": profiles, "left_out": left_out, "leaks": writing.leaks})

    def load(self, content: Content, catalogue: Catalogue) -> None:
        """Nothing: no agent may see profiles."""

    def _users(self, domain: ReviewedDomain) -> Sequence[str]:
        return domain.reviewers()[: self.most_users]


class _Writing:
    """Writes profiles, and counts calls and leaks."""

    def __init__(
        self, catalogue: Catalogue, items: int, report: Callable[[int, int], None], most: int
    ) -> None:
        self._catalogue, self._items = catalogue, items
        self._names = ItemNames(catalogue)
        self._report, self._most, self._done = report, most, 0
        self.leaks = 0

    async def profile(self, buyer: ReviewedBuyer, ask: Ask) -> BuyerProfile | str:
        """The profile, or why there is none."""
        targets = self._shown(buyer.targets)
        history = self._shown(buyer.history) or targets
        # All, because a review may name an item that is not in the prompt.
        bought = [purchase.item for purchase in (*buyer.history, *buyer.targets)]
        try:
            preference = await self._ask(ask, PREFERENCE, history, bought, _preference_texts)
            openness = await self._ask(ask, OPENNESS, history, bought, _no_texts)
            needs = await self._ask(ask, NEEDS, targets, bought, _needs_texts)
        except ReplyInvalid as error:
            return error.message
        return BuyerProfile(
            preference.general_preference,
            needs.target_needs,
            tuple(each.purchase_reason for each in needs.analysis[: len(targets)]),
            tuple(buyer.category_path),
            buyer.budget,
            needs.overall_decision_making_style,
            openness.dialogue_openness,
        )

    def _shown(self, purchases: Sequence[Purchase]) -> list[Purchase]:
        """The latest, as prompts show them."""
        return [
            purchase._replace(review=cut(purchase.review, _LONGEST_REVIEW))
            for purchase in purchases[-self._items :]
        ]

    async def _ask(
        self,
        ask: Ask,
        step: Step[R],
        purchases: Sequence[Purchase],
        bought: Sequence[Item],
        texts: Callable[[R], Sequence[str]],
    ) -> R:
        """The reply, none of whose `texts` names an item of `bought`. ReplyInvalid."""
        named: list[str] = []
        for attempt in range(_TRIES):
            reply = await ask(
                step,
                draw=attempt,
                noun=self._catalogue.noun,
                purchases=purchases,
                named=named,
            )
            leaks = self._names.all_named(texts(reply), bought)
            if not leaks:
                return reply
            self.leaks += 1
            named = list(dict.fromkeys([*named, *leaks]))
        raise ReplyInvalid(
            f"{ask.role}, step {step.name}: {_TRIES} replies named an item, the last {named[-1]!r}",
            blame="user",
        )

    def tell(self) -> None:
        """Reports that the calls of one more user are done."""
        self._done += len(WriteProfiles.steps)
        self._report(self._done, self._most)


def _preference_texts(reply: _Preference) -> Sequence[str]:
    return [reply.general_preference]


def _no_texts(reply: _Openness) -> Sequence[str]:
    return []


def _needs_texts(reply: _Needs) -> Sequence[str]:
    return [reply.target_needs, *(each.purchase_reason for each in reply.analysis)]
