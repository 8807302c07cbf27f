"""Cases: simulated users, and the domains that supply them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from agents.core.artifacts import CallsRecipe
from agents.core.dialogue import UserTurn
from agents.core.items import Catalogue, Interactions, Item, Pairs, TrainingData, VisibleCase
from agents.core.plugins import Options
from simulators.core.profiles import BuyerProfile, WrittenProfiles
from simulators.core.recordings import Label

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class HiddenCase:
    """The part of a case that only the simulated user and the metrics may know."""

    targets: tuple[Item, ...]
    profile: BuyerProfile | None = None
    """Set in domains of buyers (`simulators.core.profiles`); None in all others."""


@dataclass(frozen=True, slots=True)
class RecordedAnswers(HiddenCase):
    """A case whose dialogue was recorded elsewhere: its opening, and the user's answers."""

    said: tuple[UserTurn, ...] = ()


class Case(NamedTuple):
    visible: VisibleCase
    hidden: HiddenCase


class Published(NamedTuple):
    """A paper's statistics of a data set, to compare with ours."""

    source: str
    """The paper, the table, and the filters it states."""
    statistics: dict[str, int]
    remark: str = ""
    """Why its counts may differ from ours, in one line."""


class Domain(ABC):
    """A catalogue, its interactions, and the cases drawn from them.

    Cases follow leave-one-out by time: a user's last interaction is the target of the `test` split,
    the one before that of `validation`; the history of a case is everything earlier.
    """

    Options: ClassVar[type[Options]]
    version: ClassVar[int] = 1

    @property
    def dataset(self) -> str:
        """The name of the recorded data set in the literature; empty if it is none."""
        return ""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of everything that determines catalogue, interactions and cases."""

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue: ...

    @abstractmethod
    def case_ids(self, split: Split) -> Sequence[str]:
        """Ids of all cases of `split`, in an order that depends only on the data."""

    @abstractmethod
    def case(self, split: Split, case_id: str) -> Case: ...

    @property
    def has_profiles(self) -> bool:
        """Whether its cases have profiles."""
        return False

    def profiles_recipe(self) -> CallsRecipe | None:
        """How a model writes missing profiles of the cases; None if it cannot."""
        return None

    def with_profiles(self, written: WrittenProfiles) -> Domain:
        """The domain of the users whose profiles a model has written."""
        raise NotImplementedError

    def groups(self, split: Split, case_id: str) -> Mapping[str, str]:
        """Kinds of groups that cases can be drawn and tabulated by (`cases: by`) -> the group of
        this case."""
        return {}

    def interactions(self) -> Interactions:
        """Training interactions, without validation and test targets.

        By default there are none, as in domains of recorded dialogues.
        """
        none = np.array([], dtype=np.int64)
        return Interactions((), none, none, none)

    def validation_items(self) -> np.ndarray:
        """The target of each user's `validation` case as a catalogue position, in the order of
        `interactions().user_ids`; -1 for users without one, which is the default."""
        return np.full(len(self.interactions().user_ids), -1, dtype=np.int64)

    def training_data(self) -> TrainingData:
        """What recommenders and policies are trained on."""
        return TrainingData(
            len(self.catalogue),
            self.interactions(),
            self.validation_items(),
            self.catalogue,
            self.training_dialogues(),
        )

    def training_dialogues(self) -> Pairs:
        """The users and targets of the split `train`; by default those of `validation`."""
        targets = self.validation_items()
        users = np.flatnonzero(targets >= 0)
        return Pairs(users, targets[users])

    @abstractmethod
    def statistics(self) -> dict[str, int]:
        """`users`, `items`, `interactions` after filtering, including the held-out ones."""

    def published(self) -> Published | None:
        """The same statistics in a paper that used this data set; None if there is none."""
        return None

    @property
    def replayed_turns(self) -> int:
        """Turns of the longest dialogue if the cases are recorded dialogues, otherwise 0.

        Only the agent and the user `recorded` can replay recorded dialogues.
        """
        return 0

    def labels(self) -> Sequence[Label]:
        """Labels that people gave to recorded dialogues."""
        return ()

    def remarks(self) -> Sequence[str]:
        """What was left out while reading, with counts and reasons, one line each."""
        return ()
