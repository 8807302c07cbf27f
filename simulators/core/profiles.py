"""Profiles of buyers (CSI, section 2.1 and Tables 5, 10 to 12), and their groups.

A profile is part of the hidden half of a case: only the simulated user and the metrics know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

Openness = Literal["Active", "Neutral", "Passive"]
Style = Literal["Rational", "Dependent", "Intuitive"]

OPENNESS: tuple[Openness, ...] = get_args(Openness)
STYLES: tuple[Style, ...] = get_args(Style)
GROUPS: Mapping[str, tuple[str, ...]] = {"openness": OPENNESS, "style": STYLES}
"""Kinds of groups, with the groups in the order of the paper's Table 3."""


class BuyerBudget(NamedTuple):
    """The price range that a buyer expects, in the currency of the domain."""

    lowest: float
    highest: float

    def exceeded_by(self, price: float) -> bool:
        """Whether `price` is above the budget. A price below `lowest` is in budget: in the paper's
        Table 8 an item for $18.75 is offered within a range of $29.99 to $31.92."""
        return price > self.highest


@dataclass(frozen=True, slots=True)
class BuyerProfile:
    """A buyer's character and current wishes.

    `purchase_reasons` has a reason for each target that was analysed. `category_path` begins with
    the widest category.
    """

    general_preference: str
    target_needs: str
    purchase_reasons: tuple[str, ...]
    category_path: tuple[str, ...]
    budget: BuyerBudget
    style: Style
    openness: Openness

    @property
    def groups(self) -> dict[str, str]:
        """The buyer's group of each kind in `GROUPS`."""
        return {"openness": self.openness, "style": self.style}


class WrittenProfiles(NamedTuple):
    """Profiles written by a model: the content of an artifact, and its digest."""

    digest: str
    content: Mapping[str, Any]
    """`profiles`: user -> fields; `left_out`: user -> why there is no profile; `leaks`: how many
    replies named an item and were asked for again."""
