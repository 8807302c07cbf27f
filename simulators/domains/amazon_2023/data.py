"""What is read of a category: products, and buyers with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agents.core.items import Catalogue
from simulators.core.profiles import BuyerBudget


class Buyer(NamedTuple):
    """A user: positions in the catalogue, oldest first, and what the targets cost."""

    history: Sequence[int]
    targets: Sequence[int]
    budget: BuyerBudget


class BuyerData(NamedTuple):
    """`buyers` by the data set's own names; empty where no file has any."""

    catalogue: Catalogue
    buyers: Mapping[str, Buyer]
    remarks: Sequence[str]
