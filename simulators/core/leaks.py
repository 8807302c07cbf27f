"""Title leaks: a simulated user that says the title it must not say.

A name of the title (`agents.core.titles`) is said where its words follow each other, whatever their
case, accents and punctuation: "schindlers list" says "Schindler's List (1993)". A name of one word
("Heat", "Big", "Seven") is a word of plain speech as well. It counts only where something shows
that it is a name; `Seen` lists what does. What a number follows ("Toy Story 2") is another title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from agents.core.items import Catalogue, Item
from agents.core.titles import Name, NameKind, content_words, fold, loose, numbered, parse

Seen = Literal["words", "form", "quoted", "year", "called", "alone", "capital"]
"""How it shows that a name was meant.

- `words`: it has several words.
- `form`: the title itself is written as no plain word is ("Se7en", "Amélie", "RoboCop").
- `quoted`: in quotes, asterisks or underscores.
- `year`: its year follows.
- `called`: "called", "titled" or "the title is" before it, or "is the one" after it.
- `alone`: the message holds nothing else.
- `capital`: a capital letter within a sentence, in no longer name. At the start of a sentence, or
  where all is in capitals, it shows nothing.
"""

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|&")
_QUOTES = "\"'*_`\u201c\u201d\u2018\u2019\u00ab\u00bb\u201e\u300a\u300b"
_CALLED = re.compile(
    r"\b(?:called|titled|entitled|named|(?:title|name)(?:\s+is|:))[\W_]*(?:(?:the|an?)\s+)?$", re.I
)
_IS_IT = re.compile(r"^[\W_]*\bis\s+(?:the|my)\s+(?:one|film|movie|title|game|target)\b", re.I)
_YEAR = re.compile(r"[(\[]\d{4}[)\]]")
_NEW_SENTENCE = re.compile(r"[.!?\u2026\n]|^\s*[-*]\s")
_PART_FOLLOWS = ("part", "episode", "chapter", "volume", "vol")


class Leak(NamedTuple):
    """`words` are as they were said."""

    words: str
    kind: NameKind
    seen: Seen

    def extra(self) -> dict[str, str]:
        """For the turn's record."""
        return {"leak_words": self.words, "leak_kind": self.kind, "leak_seen": self.seen}


class _Token(NamedTuple):
    raw: str
    start: int
    end: int


@dataclass(frozen=True)
class Secret:
    """A title that must stay unsaid, and what else it is called."""

    title: str
    names: tuple[Name, ...]

    @staticmethod
    def of(item: Item, catalogue: Catalogue) -> Secret:
        """A subtitle or a series counts only where nothing else in the catalogue has that name."""
        return Secret(item.title, catalogue.titles.names(catalogue.position[item.id]))

    def leak(self, words: str) -> Leak | None:
        """The first name that `words` say."""
        tokens = [_Token(m[0], m.start(), m.end()) for m in _TOKEN.finditer(words)]
        folded = numbered(" ".join(_single(token.raw) or "?" for token in tokens))
        starts, at = {}, 0
        for place, word in enumerate(folded):
            starts[at] = place
            at += len(word)
        starts[at] = len(folded)
        joined = "".join(folded)
        for name, wanted in self._wanted:
            at = joined.find(wanted)
            while at >= 0:
                first, end = starts.get(at), starts.get(at + len(wanted))
                if first is not None and end is not None:
                    said = _Said(words, tokens, folded, first, end)
                    seen = self._seen(name, said)
                    if seen is not None:
                        return Leak(said.text, name.kind, seen)
                at = joined.find(wanted, at + 1)
        return None

    @cached_property
    def _wanted(self) -> list[tuple[Name, str]]:
        # "Matrix, The" is also said as the catalogue writes it.
        verbatim = Name(fold(_YEAR.sub(" ", self.title)), "title")
        names = dict.fromkeys((*self.names, verbatim))
        return [(name, wanted) for name in names if (wanted := loose(name.text))]

    @cached_property
    def _year(self) -> str | None:
        return parse(self.title).year

    @cached_property
    def _forms(self) -> dict[str, str]:
        """The words of the title as it writes them, by their folded form."""
        return {_single(m[0]): m[0] for m in _TOKEN.finditer(self.title)}

    def _seen(self, name: Name, said: _Said) -> Seen | None:
        """How `said` shows that it is meant as this name; None where it does not."""
        if said.followed_by_year(self._year):
            return "year"
        if name.needs_year or said.followed_by_a_number:
            return None
        if len(content_words(name.text)) > 1:
            return "words"
        form = self._forms.get(_single(said.longest.raw), "")
        if _is_no_plain_word(form):
            return "form"
        if said.quoted:
            return "quoted"
        if _CALLED.search(said.before) or _IS_IT.match(said.after):
            return "called"
        if said.alone:
            return "alone"
        if form[:1].isupper() and said.capital:
            return "capital"
        return None


@dataclass(frozen=True)
class _Said:
    """Words of a message that may be a name: its tokens from `first` up to `end`."""

    message: str
    tokens: list[_Token]
    folded: list[str]
    first: int
    end: int

    @property
    def text(self) -> str:
        return self.message[self.tokens[self.first].start : self.tokens[self.end - 1].end]

    @property
    def before(self) -> str:
        return self.message[: self.tokens[self.first].start]

    @property
    def after(self) -> str:
        return self.message[self.tokens[self.end - 1].end :]

    @property
    def longest(self) -> _Token:
        return max(self.tokens[self.first : self.end], key=lambda token: len(token.raw))

    @property
    def quoted(self) -> bool:
        left, right = self.before[-1:], self.after.lstrip(".,!?")[:1]
        return bool(left and right) and left in _QUOTES and right in _QUOTES

    @property
    def alone(self) -> bool:
        rest = [*self.folded[: self.first], *self.folded[self.end :]]
        return set(rest) <= {"the", "a", "an"}

    def followed_by_year(self, year: str | None) -> bool:
        pattern = rf"^[\W_]{{0,3}}(?:(?:from|of|in)\s+)?{year}\b"
        return year is not None and re.match(pattern, self.after) is not None

    @property
    def followed_by_a_number(self) -> bool:
        following = self.folded[self.end : self.end + 2]
        if not following or _NEW_SENTENCE.match(self.after):
            return False
        number = following[-1] if following[0] in _PART_FOLLOWS else following[0]
        gap = self.after[: self.tokens[self.end].start - self.tokens[self.end - 1].end]
        return number.isdigit() and not gap.strip(" :-\u2013\u2014(")

    @property
    def capital(self) -> bool:
        """Whether its longest word has a capital that only a name explains."""
        at = self.tokens.index(self.longest)
        if not self.longest.raw[:1].isupper() or self.longest.raw == "I":
            return False
        if self.message.upper() == self.message or self._starts_a_sentence(self.first):
            return False
        inside = range(self.first, self.end)
        after = at + 1
        if after not in inside and after < len(self.tokens):
            gap = self.message[self.tokens[at].end : self.tokens[after].start]
            if gap == " " and self._is_capital(after):
                return False  # "Speed Racer" is not "Speed"
        before = self.first - 1
        gap = self.message[self.tokens[before].end : self.tokens[self.first].start]
        return not (gap == " " and self._is_capital(before) and not self._starts_a_sentence(before))

    def _is_capital(self, place: int) -> bool:
        raw = self.tokens[place].raw
        return raw[:1].isupper() and raw.partition("'")[0] != "I"

    def _starts_a_sentence(self, place: int) -> bool:
        if not place:
            return True
        gap = self.message[self.tokens[place - 1].end : self.tokens[place].start]
        return _NEW_SENTENCE.search(gap) is not None


def _single(token: str) -> str:
    return fold(token).replace(" ", "")


def _is_no_plain_word(form: str) -> bool:
    """Whether a word is written with digits among letters, inner capitals or accents."""
    if not form.isascii():
        return True
    mixed = any(c.isdigit() for c in form) and any(c.isalpha() for c in form)
    inner = any(c.isupper() for c in form[1:]) and any(c.islower() for c in form)
    return mixed or inner
