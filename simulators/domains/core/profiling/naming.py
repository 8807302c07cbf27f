"""Detects texts that name one of a shop's items, in full or in part.

Tables 10 and 12 of CSI forbid a profile to name an item. Titles in a shop have 17 words in the
median, so people name an item by a part: "Levi's 501 jeans". A text names an item if it contains

1. its ID;
2. its title, or another name of it (`simulators.core.leaks`), but not what is in brackets or after
   a dash or colon: in a shop that is a colour, a size or a format ("(DVD)");
3. words of its title in sequence that are in at most `FEW` titles: 5 content words, or 3 of which
   one is a name word. A description of attributes may share two or three words with a title
   ("long sleeve shirt"), but hardly five in their order;
4. its brand, with a capital letter within a sentence, if at most `FEW` titles have it; or its brand
   and, at most two words away, a word of the title, if at most `FEW` titles have both ("Lock and
   Love sweater");
5. its brand and, at most two words away, a model number of the title, however many titles have it
   ("Levi's 501");
6. a model number of letters and digits ("WH1000XM4") that at most `FEW` titles have.

`FEW` is 3, because agents suggest three items at a time: an agent that searches for such words
shows the item at once. A word is a name word if it is no common English word and no word of a
category, and only one brand uses it. The brand is the store, if its words are in the title, or else
the first word of the title, if it is a name word and first in every title that has it. A brand of
common words ("Champion") names nothing by itself, and needs that capital letter next to a word of
the title, too. "Two words away" does not cross the end of a sentence.

Brand and kind alone ("Levi's jeans") name nothing if more than three items have them: the buyer
likes a brand. docs/papers/csi.md, Naming, has how often this finds parts of titles, and errs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple

from agents.core.items import Catalogue, Item
from agents.core.titles import fold, parse_title, without_article
from simulators.core.leaks import Secret, is_common

__all__ = ["FEW", "ItemNames"]

FEW = 3
_NEAR = 2  # words between a brand and what follows
_LONG, _SHORT = 5, 3  # content words of a run: any, or with a name word
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|&")
_SENTENCE = re.compile(r"[.!?\u2026\n:\"\u201c]")
_SMALL = frozenset(
    str.split(
        """
        a an and are as at be but by for from has have i in is it its my no not of on or so that the
        their them these they this those to up very was were when which with you your
        """
    )
)
_MEASURE = re.compile(r"\d+[a-z]{1,6}")


class _Word(NamedTuple):
    """A word of a text: folded, and where it is."""

    folded: str
    start: int
    end: int
    capital: bool
    first: bool
    """Whether it begins a sentence."""


class ItemNames:
    """The names of a catalogue's items. Built once; 4,000 titles take a fraction of a second."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._titles = [tuple(word.folded for word in _words(i.title)) for i in catalogue.items]
        found: dict[str, set[int]] = defaultdict(set)
        for place, words in enumerate(self._titles):
            for word in words:
                found[word].add(place)
        self._having = dict(found)
        self._secrets: dict[int, Secret] = {}

    def named(self, text: str, items: Iterable[Item]) -> str | None:
        """The words of `text` that name one of `items`, as written; None if none is named."""
        return next(iter(self.all_named([text], items)), None)

    def all_named(self, texts: Iterable[str], items: Iterable[Item]) -> list[str]:
        """The words of `texts` that name `items`, as written, each once."""
        found: dict[str, None] = {}
        items = list(items)
        for text in texts:
            words = _words(text)
            said = {word.folded for word in words}
            for item in items:
                if (named := self._named(text, words, said, item)) is not None:
                    found[named] = None
        return list(found)

    def _named(self, text: str, words: list[_Word], said: set[str], item: Item) -> str | None:
        place = self._catalogue.position[item.id]
        number = "".join(word.folded for word in _words(item.id))
        for word in words:
            if word.folded == number:
                return text[word.start : word.end]
        if place not in self._secrets:
            self._secrets[place] = _secret(item, self._catalogue)
        if (leak := self._secrets[place].leak(text)) is not None:
            return leak.words
        if said.isdisjoint(self._titles[place]):
            return None
        for first, end in self._parts(words, place):
            return text[words[first].start : words[end - 1].end]
        return None

    def _parts(self, words: list[_Word], place: int) -> Iterator[tuple[int, int]]:
        """Rules 3 to 6: where a part of the title begins and ends in `words`."""
        title, brand = self._titles[place], self._brands[place]
        folded = [word.folded for word in words]
        for first, end in _shared_runs(folded, title):
            run = tuple(folded[first:end])
            content = [word for word in run if word not in _SMALL]
            is_long = len(content) >= _LONG
            is_name = len(content) >= _SHORT and any(self._is_name_word(w, place) for w in content)
            if (is_long or is_name) and self._titles_with(run) <= FEW:
                yield first, end
        others = {word for word in title if word not in _SMALL and word not in brand}
        for first in self._brand_places(words, brand):
            end = first + len(brand)
            alone = words[first].capital and not words[first].first and not _all_common(brand)
            if alone and self._titles_with(brand) <= FEW:
                yield first, end
            for other in (*range(first - _NEAR - 1, first), *range(end, end + _NEAR + 1)):
                if not 0 <= other < len(words) or folded[other] not in others:
                    continue
                begin, stop = min(first, other), max(end, other + 1)
                if any(word.first for word in words[begin + 1 : stop]):
                    continue
                near = folded[other]
                if _is_model_number(near) or self._titles_with(brand, near) <= FEW:
                    yield begin, stop
        for at, word in enumerate(folded):
            if word in others and _is_code(word) and len(self._having[word]) <= FEW:
                yield at, at + 1

    def _brand_places(self, words: list[_Word], brand: tuple[str, ...]) -> Iterator[int]:
        if not brand:
            return
        plain = _all_common(brand)
        for first in range(len(words) - len(brand) + 1):
            if tuple(word.folded for word in words[first : first + len(brand)]) != brand:
                continue
            begins = words[first]
            # "Gap" within a sentence is a brand, "gap" and "Gap" at its beginning may be a word.
            if plain and (not begins.capital or (len(brand) == 1 and begins.first)):
                continue
            yield first

    def _titles_with(self, run: tuple[str, ...], other: str = "") -> int:
        """How many titles have the words of `run` in sequence, and `other` anywhere."""
        wanted = (*run, other) if other else run
        places = set.intersection(*(self._having[word] for word in wanted))
        if len(run) == 1:
            return len(places)
        return sum(_contains(self._titles[place], run) for place in places)

    def _is_name_word(self, word: str, place: int) -> bool:
        if word in self._brands[place] and not is_common(word):
            return True
        return self._is_rare(word) and len({self._makers[p] for p in self._having[word]}) == 1

    def _is_rare(self, word: str) -> bool:
        return not is_common(word) and word not in self._of_categories

    @cached_property
    def _of_categories(self) -> frozenset[str]:
        paths = {item.attributes.get("category", ()) for item in self._catalogue.items}
        words = {word.folded for path in paths for name in path for word in _words(name)}
        return frozenset(words | {word.removesuffix("s") for word in words})

    @cached_property
    def _makers(self) -> list[str]:
        """Who makes an item: its store, or else the first word of its title."""
        return [
            fold(" ".join(item.attributes.get("store", ()))) or " ".join(words[:1])
            for item, words in zip(self._catalogue.items, self._titles, strict=True)
        ]

    @cached_property
    def _brands(self) -> list[tuple[str, ...]]:
        """The words of each item's brand in its title; empty if unknown."""
        return [self._brand(place) for place in range(len(self._titles))]

    def _brand(self, place: int) -> tuple[str, ...]:
        title = self._titles[place]
        for store in self._catalogue.items[place].attributes.get("store", ()):
            words = tuple(word.folded for word in _words(store))
            if any(word not in _SMALL for word in words) and _contains(title, words):
                return words
        if not title or not self._is_rare(title[0]):
            return ()
        others = (self._titles[other][0] for other in self._having[title[0]])
        return title[:1] if all(first == title[0] for first in others) else ()


def _secret(item: Item, catalogue: Catalogue) -> Secret:
    """The title and its names, without those made of brackets or of what follows a dash."""
    secret = Secret.of(item, catalogue)
    stem = without_article(fold(parse_title(item.title).stem))
    names = tuple(
        name
        for name in secret.names
        if name.kind != "after_colon"
        and (name.kind != "second_name" or without_article(name.text) == stem)
    )
    return replace(secret, names=names)


def _words(text: str) -> list[_Word]:
    found, last = [], 0
    for match in _TOKEN.finditer(text):
        raw = match[0]
        begins = not found or _SENTENCE.search(text, last, match.start()) is not None
        last = match.end()
        folded = fold(raw).replace(" ", "")
        if folded:
            found.append(_Word(folded, match.start(), last, raw[:1].isupper(), begins))
    return found


def _shared_runs(text: Sequence[str], title: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The longest sequences that begin in `text` and are in `title`, of 3 words or more."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(title):
        places[word].append(place)
    covered = 0
    for first, word in enumerate(text):
        best = 0
        for place in places.get(word, ()):
            length = 1
            while (
                first + length < len(text)
                and place + length < len(title)
                and text[first + length] == title[place + length]
            ):
                length += 1
            best = max(best, length)
        if best >= _SHORT and first + best > covered:
            covered = first + best
            yield first, covered


def _contains(title: tuple[str, ...], run: tuple[str, ...]) -> bool:
    return any(title[at : at + len(run)] == run for at in range(len(title) - len(run) + 1))


@lru_cache(maxsize=4096)
def _all_common(brand: tuple[str, ...]) -> bool:
    return all(map(is_common, brand))


def _is_model_number(word: str) -> bool:
    """Three digits or more, or letters before digits: no size and no measure ("12pcs")."""
    if word.isdigit():
        return len(word) >= 3
    return any(map(str.isdigit, word)) and _MEASURE.fullmatch(word) is None


def _is_code(word: str) -> bool:
    return len(word) >= 5 and not word.isdigit() and _is_model_number(word)
