"""The sentences in which agents ask about attributes, and how both sides read each other.

Agents speak in the fixed sentences of this module, to `attribute_user` and to users that a model
plays. `attribute_user` recognises the questions word for word. The agent reads free text, without a
model: named facts, with or without a negation before them, and yes or no. What it cannot read
counts as no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agents.core.grounding import normalise
from agents.core.items import Fact, Item, with_article
from agents.core.per_object import PerObject
from agents.multi_round.space import AttributeQuestion, AttributeSpace

NO_PICK = "None of them."
REFUSAL = "No, none of these."
_LISTED = 20  # facts that an enumerated question names
_LONGEST = 6  # words of a value that is recognised
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_CLAUSE = re.compile(r"[.!?;\n]|\bbut\b|\bthough\b|\bhowever\b", re.I)
_NEGATIONS = frozenset(
    (
        "no",
        "not",
        "never",
        "without",
        "except",
        "nor",
        "neither",
        "none",
        "hate",
        "dislike",
        "avoid",
    )
)
_YES = frozenset(("yes", "yeah", "yep", "yup", "sure", "definitely", "absolutely", "certainly"))
_NO = frozenset(("no", "nope", "nah", "not", "neither", "none"))


def opening(fact: Fact, noun: str) -> str:
    """What `attribute_user` says first."""
    return (
        f"I am looking for {with_article(noun)} with the {fact.attribute} {in_quotes(fact.value)}."
    )


def question_text(question: AttributeQuestion, space: AttributeSpace) -> str:
    """The question, as every agent of this kind asks it."""
    if space.form == "binary":
        fact = space.facts[question.facts[0]]
        return f"Do you want the {fact.attribute} {in_quotes(fact.value)}?"
    values = [space.facts[place].value for place in question.facts]
    listed = ", ".join(map(in_quotes, values[:_LISTED]))
    others = " or others" if len(values) > _LISTED else ""
    return f"Which of these do you want ({question.facet}): {listed}{others}?"


def recommendation(shown: Sequence[Item], noun: str) -> str:
    """The message that recommends `shown`."""
    titles = "; ".join(item.title for item in shown)
    return f"How about {titles}?" if shown else f"I have no other {noun} to recommend."


def picks(facts: Iterable[Fact]) -> str:
    """The answer to an enumerated question."""
    named = " and ".join(in_quotes(fact.value) for fact in facts)
    return f"I want {named}." if named else NO_PICK


def acceptance(item: Item) -> str:
    return f"Yes, {item.title} is what I want."


def in_quotes(value: str) -> str:
    return f'"{value}"'


class Understood(NamedTuple):
    """What an agent understands of a message: positions of facts."""

    liked: tuple[int, ...]
    disliked: tuple[int, ...]


class Reader:
    """Reads the messages of users of one catalogue."""

    def __init__(self, space: AttributeSpace) -> None:
        self._space = space
        self._named: dict[str, list[int]] = {}
        for place, fact in enumerate(space.facts):
            words = " ".join(_words(normalise(fact.value)))
            if words:
                self._named.setdefault(words, []).append(place)
        self.questions = {question_text(q, space): place for place, q in enumerate(space.questions)}
        """Words -> position of the question."""

    @staticmethod
    def of(space: AttributeSpace) -> Reader:
        """The reader of `space`; one per process."""
        return _READERS.of(space)

    def read(self, text: str, asked: int | None) -> Understood:
        """What `text` says, as the answer to the question at `asked`, or to none.

        The answer to a yes/no question is what the text says about its fact, otherwise the first
        yes or no in it. The facts of an enumerated question that the answer does not pick are
        disliked, if it picks any or says no.
        """
        liked: dict[int, None] = {}
        disliked: dict[int, None] = {}
        for clause in _CLAUSE.split(text):
            self._read_clause(clause, liked, disliked)
        facts: tuple[int, ...] = () if asked is None else self._space.questions[asked].facts
        if facts and self._space.form == "binary":
            fact = facts[0]
            if fact not in liked and fact not in disliked and (answer := _yes_or_no(text)):
                (liked if answer == "yes" else disliked)[fact] = None
        elif facts and (any(f in liked for f in facts) or _yes_or_no(text) == "no"):
            disliked |= dict.fromkeys(fact for fact in facts if fact not in liked)
        return Understood(tuple(liked), tuple(f for f in disliked if f not in liked))

    def _read_clause(self, clause: str, liked: dict[int, None], disliked: dict[int, None]) -> None:
        words = _words(clause.casefold())
        plain = [" ".join(_words(normalise(word))) for word in words]
        negated, at = False, 0
        while at < len(words):
            for length in range(min(_LONGEST, len(words) - at), 0, -1):
                places = self._named.get(" ".join(plain[at : at + length]))
                if places:
                    (disliked if negated else liked).update(dict.fromkeys(places))
                    at += length
                    break
            else:
                negated = negated or _negates(words[at])
                at += 1


def _yes_or_no(text: str) -> str:
    """The first word that says yes or no; empty if there is none."""
    for word in _words(text.casefold()):
        if word in _YES or word in _NO:
            return "yes" if word in _YES else "no"
    return ""


def _negates(word: str) -> bool:
    return word in _NEGATIONS or word.replace("\u2019", "'").endswith("n't") or word == "cannot"


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


_READERS = PerObject(Reader)
