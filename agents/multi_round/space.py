"""The facts of a catalogue as a matrix, and the questions that can be asked about them."""

from __future__ import annotations

import threading
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Catalogue, facts_of

Form = Literal["auto", "binary", "enumerated"]


class AttributeQuestion(NamedTuple):
    """`facts` are positions in `AttributeSpace.facts`: one in a yes/no question."""

    facet: str
    facts: tuple[int, ...]


class AttributeSpace:
    """Facts and questions of one catalogue, in the order of first appearance.

    `binary`: one yes/no question for each fact (EAR and UNICORN on LastFM). `enumerated`: one
    question for each facet, answered by all of its facts that are true (EAR and UNICORN on Yelp).
    A facet is an attribute, or the group that the catalogue puts a fact into (`Catalogue.facets`).
    `auto`: enumerated where the catalogue has such groups.

    DataError if no item has an attribute.
    """

    def __init__(self, catalogue: Catalogue, form: Form) -> None:
        self.form: Form = resolved(catalogue, form)
        self.noun = catalogue.noun
        every = dict.fromkeys(fact for item in catalogue.items for fact in facts_of(item))
        facets = {fact: catalogue.facets.get(fact, fact.attribute) for fact in every}
        # Where facts have two layers, the upper one names the facets and is not asked about.
        self.facts = tuple(fact for fact in every if facets[fact])
        if not self.facts:
            raise DataError(
                f"no {catalogue.noun} of the catalogue has an attribute, so there is nothing to "
                "ask about; agents that ask about attributes need a domain with attributes"
            )
        self.place = {fact: place for place, fact in enumerate(self.facts)}
        self.has = np.zeros((len(catalogue), len(self.facts)), bool)
        """(items, facts)."""
        for row, item in enumerate(catalogue.items):
            self.has[row, [self.place[f] for f in facts_of(item) if f in self.place]] = True
        self.items_with = np.ascontiguousarray(self.has.T)
        """(facts, items)."""
        groups: dict[str, list[int]] = {}
        for place, fact in enumerate(self.facts):
            groups.setdefault(facets[fact], []).append(place)
        if self.form == "binary":
            asked = [AttributeQuestion(facets[f], (place,)) for place, f in enumerate(self.facts)]
        else:
            asked = [AttributeQuestion(facet, tuple(places)) for facet, places in groups.items()]
        self.questions = tuple(asked)
        self.members = np.zeros((len(asked), len(self.facts)), bool)
        """(questions, facts): what each question is about."""
        for row, question in enumerate(asked):
            self.members[row, list(question.facts)] = True
        self.members_of = np.ascontiguousarray(self.members.T, np.float32)
        """(facts, questions): its transpose as float32, for matrix products."""
        self._in_order = np.concatenate([question.facts for question in asked])
        self._starts = np.cumsum([0, *(len(question.facts) for question in asked[:-1])])

    def highest(self, values: np.ndarray) -> np.ndarray:
        """(n, questions): the highest of `values` (n, facts) among the facts of each question."""
        return np.maximum.reduceat(values[:, self._in_order], self._starts, axis=1)

    @staticmethod
    def of(catalogue: Catalogue, form: Form = "binary") -> AttributeSpace:
        """The space of `catalogue` with questions of this form; one per process."""
        form = resolved(catalogue, form)
        with _MAKING:
            forms = _SPACES.setdefault(catalogue, {})
            if form not in forms:
                forms[form] = AttributeSpace(catalogue, form)
            return forms[form]


def resolved(catalogue: Catalogue, form: Form) -> Form:
    """The form that `auto` means for this catalogue."""
    if form != "auto":
        return form
    return "enumerated" if catalogue.facets else "binary"


_SPACES: WeakKeyDictionary[Catalogue, dict[Form, AttributeSpace]] = WeakKeyDictionary()
_MAKING = threading.Lock()
