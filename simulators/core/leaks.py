"""Detects title leaks: a simulated user that names the title it must not name.

A name of the title (`agents.core.titles`) is a leak if its words appear in sequence, ignoring case,
accents and punctuation: "schindlers list" names "Schindler's List (1993)".

A name of one common word ("Heat", "Big", "Seven"; `common_words.txt`) may also be an ordinary word.
It counts only with evidence that it is meant as a name; `Seen` lists the kinds of evidence. If a
number follows ("Toy Story 2"), it is another title.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from agents.core.items import Catalogue, Item
from agents.core.titles import (
    Name,
    NameKind,
    content_words,
    fold,
    loose,
    numbered,
    parse_title,
    without_article,
)

Seen = Literal["words", "form", "quoted", "year", "called", "alone", "capital", "rare"]
"""How it shows that a name was meant.

- `words`: it has several words.
- `form`: the title itself is written as no plain word is ("Se7en", "Amélie", "RoboCop").
- `quoted`: in quotes, asterisks or underscores.
- `year`: its year follows.
- `called`: "called", "titled", "the title is" or "the film" before it, or "is the one" after it.
- `alone`: the message holds nothing else.
- `capital`: a capital letter within a sentence, in no longer name. At the start of a sentence, or
  where all is in capitals, it shows nothing.
- `rare`: it is not a common English word, and in no longer name.
"""

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|&")
_QUOTES = "\"'*_`\u201c\u201d\u2018\u2019\u00ab\u00bb\u201e\u300a\u300b"
_CALLED = re.compile(
    r"\b(?:called|titled|entitled|named|(?:title|name)(?:\s+is|:))[\W_]*(?:(?:the|an?)\s+)?$"
    r"|\b(?:the|this|that)\s+(?:\w+\s+)?(?:film|movie|game)(?:\s+|:\s*)(?:(?:the|an?)\s+)?$",
    re.I,
)
_ARTICLE_BEFORE = re.compile(r"\b(?:the|an?)\s+$", re.I)
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_ARTICLES = frozenset(("the", "a", "an"))
_NO_TOKEN = "?"
_IS_IT = re.compile(r"^[\W_]*\bis\s+(?:the|my)\s+(?:one|film|movie|title|game|target)\b", re.I)
_YEAR = re.compile(r"[(\[]\d{4}[)\]]")
_NEW_SENTENCE = re.compile(r"[.!?\u2026\n]|^\s*[-*]\s")
_PART_FOLLOWS = ("part", "episode", "chapter", "volume", "vol")


_SHORTENED = len("doctor") - len("dr")
"""By how many characters a word is shortened at most, once another one follows."""


class Leak(NamedTuple):
    """`words` are as written in the message."""

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


class _Message(NamedTuple):
    """A message and its tokens: folded, with numbers as digits, as a name may begin there, and
    folded without spaces."""

    text: str
    tokens: list[_Token]
    singles: list[str]
    folded: list[str]
    begins: list[tuple[str, str]]
    joined: str


@dataclass(frozen=True)
class Secret:
    """A title that must not be named, with its other names."""

    title: str
    names: tuple[Name, ...]

    @staticmethod
    def of(item: Item, catalogue: Catalogue) -> Secret:
        """A title's secret. A subtitle or a series counts only if nothing else in the catalogue has
        that name."""
        return Secret(item.title, catalogue.titles.names(catalogue.position[item.id]))

    def leak(self, words: str) -> Leak | None:
        """The first name that occurs in `words`."""
        message = _message(words)
        if not any(word in message.joined for word in self._telling_words):
            return None
        spans = list(self._spans(message))
        for name, wanted in self._wanted:
            for first, end, written in spans:
                if wanted.isdisjoint(written):
                    continue
                said = _Said(message.text, message.tokens, message.folded, first, end)
                seen = self._seen(name, said)
                if seen is not None:
                    return Leak(said.text, name.kind, seen)
        return None

    def _spans(self, message: _Message) -> Iterator[tuple[int, int, tuple[str, str]]]:
        """Words that may be a name: where they begin and end, as written and with their numbers as
        digits. Whether "I" or "V" is a number depends on its place in the name, not in the message.
        """
        keys, initials, longest = self._keys
        singles = message.singles
        for first, begins in enumerate(message.begins):
            if begins[0][0] not in initials and begins[1][0] not in initials:
                continue
            if not any(key.startswith(begins) for key in keys):
                continue
            for end in range(first + 1, len(singles) + 1):
                inside = singles[first:end]
                as_digits = "".join(numbered(" ".join(inside)))
                # "Doctor" alone is longer than "Dr. T", which begins with it.
                if len(as_digits) > longest + _SHORTENED:
                    break
                yield first, end, ("".join(inside), as_digits)

    @cached_property
    def _telling_words(self) -> frozenset[str]:
        """The longest word of each name, without which a message does not contain the name. Empty
        for a name of words that can be written in other ways, as numbers can. For speed alone.
        """
        return frozenset(
            max(filter(_is_written_so, name.text.split()), key=len, default="")
            for name, _ in self._wanted
        )

    @cached_property
    def _keys(self) -> tuple[list[str], frozenset[str], int]:
        """What a name may be written as, with which letters that begins, and the longest length."""
        keys = [key for _, wanted in self._wanted for key in wanted if key]
        return keys, frozenset(key[0] for key in keys), max(map(len, keys), default=0)

    @cached_property
    def _wanted(self) -> list[tuple[Name, frozenset[str]]]:
        # "Matrix, The" is also said as the catalogue writes it.
        verbatim = Name(fold(_YEAR.sub(" ", self.title)), "title")
        names = dict.fromkeys((*self.names, verbatim))
        return [
            (name, frozenset((wanted, without_article(name.text).replace(" ", ""))))
            for name in names
            if (wanted := loose(name.text))
        ]

    @cached_property
    def _year(self) -> str | None:
        return parse_title(self.title).year

    @cached_property
    def _forms(self) -> dict[str, str]:
        """The words of the title as written, by their folded form."""
        return {_single(m[0]): m[0] for m in _TOKEN.finditer(_visible(self.title))}

    def _seen(self, name: Name, said: _Said) -> Seen | None:
        """The evidence that `said` is meant as this name; None if there is none."""
        if said.followed_by_year(self._year):
            return "year"
        if name.needs_year or said.followed_by_a_number:
            return None
        if len(content_words(name.text)) > 1:
            return "words"
        form = self._forms.get(_single(said.text)) or self._forms.get(_single(said.longest.raw), "")
        if _is_unusual_word(form):
            return "form"
        if said.quoted:
            return "quoted"
        if _CALLED.search(said.before) or _IS_IT.match(said.after):
            return "called"
        if said.alone:
            return "alone"
        if form[:1].isupper() and said.capital:
            return "capital"
        if not said.in_a_longer_name and not all(map(is_common, name.text.split())):
            return "rare"
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
        inside = self.tokens[self.first : self.end]
        return max(inside, key=lambda token: len(token.raw) * bool(content_words(fold(token.raw))))

    @property
    def quoted(self) -> bool:
        left = _ARTICLE_BEFORE.sub("", self.before)[-1:]
        right = self.after.lstrip(".,!?")[:1]
        return bool(left and right) and left in _QUOTES and right in _QUOTES

    @property
    def alone(self) -> bool:
        rest = [*self.folded[: self.first], *self.folded[self.end :]]
        return _ARTICLES.issuperset(rest)

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
        if not self.longest.raw[:1].isupper() or self.longest.raw == "I":
            return False
        if self.message.upper() == self.message or self._starts_a_sentence(self.first):
            return False
        return not self.in_a_longer_name

    @property
    def in_a_longer_name(self) -> bool:
        """Whether capitalised words are next to it: "Speed Racer" is not "Speed"."""
        if self.message.upper() == self.message or not self.longest.raw[:1].isupper():
            return False
        if (
            self.end < len(self.tokens)
            and self._gap(self.end) == " "
            and self._is_capital(self.end)
        ):
            return True
        before = self.first - 1
        # An article is part of this name: "see The Matrix", but "play Enter The Matrix".
        if before > 0 and self._gap(self.first) == " " and self.folded[before] in _ARTICLES:
            if self._starts_a_sentence(before) or self._gap(before) != " ":
                return False
            before -= 1
        if before < 0 or self._gap(before + 1) != " ":
            return False
        return self._is_capital(before) and not self._starts_a_sentence(before)

    def _gap(self, place: int) -> str:
        """What is between a token and the one before it."""
        return self.message[self.tokens[place - 1].end : self.tokens[place].start]

    def _is_capital(self, place: int) -> bool:
        raw = self.tokens[place].raw
        return raw[:1].isupper() and raw.partition("'")[0] != "I"

    def _starts_a_sentence(self, place: int) -> bool:
        if not place:
            return True
        return _NEW_SENTENCE.search(self._gap(place)) is not None


@lru_cache(maxsize=64)
def _message(words: str) -> _Message:
    """Cached, because a message is compared with many titles in a row."""
    words = _visible(words)
    tokens = [_Token(m[0], m.start(), m.end()) for m in _TOKEN.finditer(words)]
    singles = [_single(token.raw) or _NO_TOKEN for token in tokens]
    begins = [(single, numbered(f"{single} x")[0]) for single in singles]
    return _Message(words, tokens, singles, numbered(" ".join(singles)), begins, "".join(singles))


def _visible(text: str) -> str:
    """Letters and their accents as one character each, without soft hyphens and the like."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFC", text))


@cache
def _common_words() -> frozenset[str]:
    text = Path(__file__).with_name("common_words.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(word for line in lines for word in line.split())


def is_common(word: str) -> bool:
    """Whether a folded word is an ordinary one: on the list, an inflected form, a short word, or a
    number."""
    if len(word) < 3 or word.isdigit():
        return True
    common = _common_words()
    endings = ("", "s", "es", "d", "ed", "ing", "er", "r", "ers", "rs", "ly", "y", "less")
    stems = [word[: len(word) - len(e)] for e in endings if word.endswith(e)]
    if word.endswith("ing"):
        stems.append(word.removesuffix("ing") + "e")
    return any(stem in common for stem in stems)


def _is_written_so(word: str) -> bool:
    """Whether a folded word is written in one way: no number, no abbreviation, no letter."""
    return len(word) > 2 and not word.isdigit() and numbered(f"{word} x")[0] == word


def _single(token: str) -> str:
    return fold(token).replace(" ", "")


def _is_unusual_word(form: str) -> bool:
    """Whether a word has digits among letters, inner capitals or accents."""
    if not form.isascii():
        return True
    mixed = any(c.isdigit() for c in form) and any(c.isalpha() for c in form)
    inner = any(c.isupper() for c in form[1:]) and any(c.islower() for c in form)
    return mixed or inner
