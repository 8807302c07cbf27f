"""The catalogue as a knowledge base: entities are items and attribute values, one hop apart."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from agents.core.grounding import TitleIndex, normalise
from agents.core.items import Catalogue

_DESCRIPTION = 300  # characters of a description that are shown


class Relation(ABC):
    """What leads from one entity to others.

    `text` names it to a model: "genre: Drama" from a value to the items that have it, "Jaws
    (1975): genre" from an item to what the catalogue says about it.
    """

    text: str

    @abstractmethod
    def facts(self, allowed: np.ndarray, most: int, rng: random.Random) -> str:
        """A line that says where it leads.

        Of items, at most `most` of those in the mask `allowed` (items,), drawn at random.
        """


@dataclass(frozen=True)
class _Property(Relation):
    """From an item to what the catalogue says about it."""

    text: str
    value: str

    def facts(self, allowed: np.ndarray, most: int, rng: random.Random) -> str:
        return f"{self.text} -> {self.value}"


@dataclass(frozen=True)
class _Bearers(Relation):
    """From an attribute value to the items that have it."""

    text: str
    places: np.ndarray
    catalogue: Catalogue

    def facts(self, allowed: np.ndarray, most: int, rng: random.Random) -> str:
        left = self.places[allowed[self.places]].tolist()
        drawn = sorted(rng.sample(left, most)) if len(left) > most else left
        titles = "; ".join(self.catalogue.items[place].title for place in drawn) or "(none)"
        cut = f" (and {len(left) - most} more)" if len(left) > most else ""
        return f"{self.text} -> {titles}{cut}"


class KnowledgeBase:
    """Finds the relations of an entity by its name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        bearers = _bearers_of(catalogue)
        self._values, self._bearers = TitleIndex(list(bearers)), list(bearers.values())

    def relations(self, entity: str) -> list[Relation]:
        """Those of the values and of the item that `entity` means; [] if it means nothing.

        Values are found like titles (`agents.core.grounding`).
        """
        value = self._values.ground(entity)
        found: list[Relation] = [] if value is None else [*self._bearers[value.place]]
        title = self._catalogue.titles.ground(entity)
        if title is not None:
            item = self._catalogue.items[title.place]
            found += [
                _Property(f"{item.title}: {name}", ", ".join(values))
                for name, values in item.attributes.items()
                if values
            ]
            if item.description:
                about = f"{item.title}: description"
                found.append(_Property(about, item.description[:_DESCRIPTION]))
        return found


@lru_cache(maxsize=4)
def knowledge_base(catalogue: Catalogue) -> KnowledgeBase:
    """The one knowledge base of `catalogue` in this process."""
    return KnowledgeBase(catalogue)


def _bearers_of(catalogue: Catalogue) -> dict[str, list[_Bearers]]:
    """Normalised value -> its relations, one for each attribute that has the value."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, item in enumerate(catalogue.items):
        for name, values in item.attributes.items():
            for value in dict.fromkeys(values):
                places.setdefault((name, value), []).append(place)
    found: dict[str, list[_Bearers]] = {}
    for (name, value), where in places.items():
        text = f"{name}: {value}"
        bearers = _Bearers(text, np.array(where), catalogue)
        found.setdefault(normalise(value), []).append(bearers)
    return found
