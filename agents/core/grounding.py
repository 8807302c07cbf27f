"""Grounding: from a title that a model wrote to the item it means, or to nothing.

In this order; the first that finds something decides, and what could be several items is none:

1. an item's own title, whatever its case, accents, punctuation and the place of its article;
2. the same without its year;
3. the same with its article dropped or added, words joined or split, numbers written otherwise;
4. another name of the title (`agents.core.titles`): a second name in brackets, a subtitle left out,
   what follows a colon; a year that is given must be the item's;
5. a title nearly the same: `rapidfuzz.fuzz.ratio` of at least `FUZZY_CUTOFF`, the same year and the
   same numbers.

Anything else is ungrounded. It is counted, never guessed. docs/designs/grounding.md says why.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, process

from agents.core.titles import (
    Name,
    NameKind,
    Parts,
    counts_a_part,
    fold,
    is_name,
    loose,
    names_of,
    numbered,
    parse_title,
    without_article,
)

# At 90, a name of 20 characters may differ in two, one of 8 letters in none.
FUZZY_CUTOFF = 90.0
How = Literal[NameKind, "no_year", "spelling", "similar"]
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_BARE_YEAR = re.compile(r"^(.*?\w)\W+((?:18|19|20)\d\d)$", re.DOTALL)
_ENUMERATED = re.compile(r"^\s*\d{1,2}[.)]\s+(?=\S)")
_ARTICLE = re.compile(r"^(.*), (the|a|an|le|la|les|il|el|das|der|die)$")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_SPACES = re.compile(r"\s+")
# Names that one film of a series shares with another, or with a film that the series is called by.
_OF_A_SERIES = frozenset(("subtitle_left_out", "after_colon"))


class Grounded(NamedTuple):
    """`place` is the title's position in the list; `score` is below 100 only where `how` is
    "similar"."""

    place: int
    score: float
    how: How


class _Claim(NamedTuple):
    """An item that another name than its own title may mean."""

    place: int
    name: Name


class _Ambiguous(Exception):
    """What was written could be several items, or is known and none of those to choose from."""


@lru_cache(maxsize=65536)
def normalise(title: str) -> str:
    """Lower case, no accents, no punctuation, single spaces, the article in front."""
    text = unicodedata.normalize("NFKD", title)
    text = "".join(c for c in text if not unicodedata.combining(c)).casefold()
    year = _YEAR.search(text)
    stem = text[: year.start()] if year else text
    moved = _ARTICLE.match(stem.strip())
    if moved:
        stem = f"{moved[2]} {moved[1]}"
    text = f"{stem} {year[1]}" if year else stem
    return _SPACES.sub(" ", _PUNCTUATION.sub(" ", text)).strip()


class TitleIndex:
    """Finds titles of one catalogue. Look-ups are remembered: models repeat themselves."""

    def __init__(self, titles: Sequence[str]) -> None:
        self._titles = tuple(titles)
        self._raw = _places(titles)
        self._ground = lru_cache(maxsize=65536)(self._ground_in_all)

    def ground(self, title: str, among: Collection[int] | None = None) -> Grounded | None:
        """The one item that `title` means, or None.

        `among` holds the places of the items that there were to choose from, if not all. What is
        ambiguous in the catalogue stays so, but for equal titles of which one is among them.
        """
        if among is None:
            return self._ground(title)
        try:
            return self._find(title, among)
        except _Ambiguous:
            return None

    def names(self, place: int) -> tuple[Name, ...]:
        """The names of the item at `place`. Those that leave a part out must mean it alone."""
        title = self._titles[place]
        year = parse_title(title).year
        return tuple(
            name
            for name in names_of(title)
            if name.kind not in _OF_A_SERIES or self._means(name, year, place)
        )

    def _means(self, name: Name, year: str | None, place: int) -> bool:
        written = [f"{name.text} ({year})"] if year else []
        written += [] if name.needs_year else [name.text]
        return any(found and found.place == place for found in map(self.ground, written))

    @cached_property
    def _parts(self) -> tuple[tuple[str, str | None], ...]:
        """The folded name of every title, and its year."""
        found = []
        for title in self._titles:
            parts = parse_title(title)
            found.append((parts.folded, parts.year))
        return tuple(found)

    @cached_property
    def _years(self) -> tuple[str | None, ...]:
        return tuple(year for _, year in self._parts)

    @cached_property
    def _exact(self) -> dict[tuple[str, str | None], list[int]]:
        return _places(self._parts)

    @cached_property
    def _yearless(self) -> dict[str, list[int]]:
        return _places([name for name, _ in self._parts])

    @cached_property
    def _own(self) -> dict[str, list[int]]:
        """Places of titles, less their years, by `loose`."""
        return _places([loose(name) for name, _ in self._parts])

    @cached_property
    def _claims(self) -> dict[str, list[_Claim]]:
        """The same of all other names."""
        found: dict[str, list[_Claim]] = {}
        for place, title in enumerate(self._titles):
            for name in names_of(title)[1:]:
                if key := loose(name.text):
                    found.setdefault(key, []).append(_Claim(place, name))
        return found

    def _ground_in_all(self, title: str) -> Grounded | None:
        try:
            return self._find(title, None)
        except _Ambiguous:
            return None

    def _find(self, title: str, among: Collection[int] | None) -> Grounded | None:
        same = _left(self._raw.get(title, ()), among)
        if len(same) == 1:
            return Grounded(same[0], 100.0, "title")
        parts = parse_title(title)
        name = parts.folded
        if not name:
            return None
        exact = self._exact.get((name, parts.year))
        if exact:
            return Grounded(_only(exact, among), 100.0, "title")
        found = self._named(name, parts.year, among)
        if found is None and parts.brackets:
            found = self._agreed(parts, among)
        if found is None and parts.year is None and (bare := _BARE_YEAR.match(title)):
            without = parse_title(bare[1])
            exact = self._exact.get((without.folded, bare[2]))
            if exact:
                return Grounded(_only(exact, among), 100.0, "title")
            found = self._named(without.folded, bare[2], among)
        if found is None and (number := _ENUMERATED.match(title)):
            return self._find(title[number.end() :], among)
        return found or self._similar(name, parts.year, among)

    def _named(self, name: str, year: str | None, among: Collection[int] | None) -> Grounded | None:
        """What a folded name means, if no item has exactly this title and year."""
        if year is None and (same := self._yearless.get(name)):
            return Grounded(_only(same, among), 100.0, "no_year")
        key = loose(name)
        own, claims = self._own.get(key, ()), self._claims.get(key, ())
        agreeing = [p for p in own if year is None or self._years[p] == year]
        if year is None:
            usable = [c for c in claims if not c.name.needs_year]
        else:
            usable = [c for c in claims if self._years[c.place] == year]
        if agreeing:
            place = _only(dict.fromkeys((*agreeing, *(c.place for c in usable))), among)
            bare = without_article(name) == without_article(self._parts[place][0])
            return Grounded(place, 100.0, "article" if bare else "spelling")
        if usable:
            # "Star Wars" could be an episode that only its year would tell.
            could_be = claims if year is None else usable
            place = _only(dict.fromkeys(claim.place for claim in could_be), among)
            # "Godfather (1974)" is a mistake about "Godfather, The (1972)", not its second part.
            kinds: list[NameKind] = [
                c.name.kind for c in usable if not (own and c.name.kind in _OF_A_SERIES)
            ]
            if kinds:
                return Grounded(place, 100.0, kinds[0])
        if own or claims:
            raise _Ambiguous  # a name that is known: no other is looked for that is nearly the same
        return None

    def _agreed(self, parts: Parts, among: Collection[int] | None) -> Grounded | None:
        """The one item that the stem and the brackets of what was written mean."""
        brackets = [fold(bracket) for bracket in parts.brackets]
        if any(counts_a_part(bracket) for bracket in brackets):
            return None
        found: list[Grounded] = []
        for name in (fold(parts.stem), *filter(is_name, brackets)):
            exact = self._exact.get((name, parts.year))
            one = self._named(name, parts.year, among)
            if exact:
                one = Grounded(_only(exact, among), 100.0, "second_name")
            if one is not None:
                found.append(one)
            elif parts.year is None:
                return None  # "Alien (Resurrection)" is not "Alien"
        if len({one.place for one in found}) > 1:
            raise _Ambiguous
        return found[0]._replace(how="second_name") if found else None

    def _similar(
        self, name: str, year: str | None, among: Collection[int] | None
    ) -> Grounded | None:
        places = range(len(self._titles)) if among is None else sorted(among)
        near = process.extract(
            name,
            self._folded if among is None else [self._parts[place][0] for place in places],
            scorer=fuzz.ratio,
            score_cutoff=FUZZY_CUTOFF,
            limit=None,
        )
        numbers, singular = _numbers(name), _singular(name)
        near = [
            (score, places[index])
            for text, score, index in near
            if self._years[places[index]] == year
            and _numbers(text) == numbers
            # "Alien" and "Aliens" are two films.
            and _singular(text) != singular
        ]
        if not near or (len(near) > 1 and near[0][0] == near[1][0]):
            return None
        return Grounded(near[0][1], round(near[0][0], 2), "similar")

    @cached_property
    def _folded(self) -> list[str]:
        return [name for name, _ in self._parts]


def _places(keys: Iterable) -> dict:
    """Every key's places in the list."""
    found: dict = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return found


def _left(places: Iterable[int], among: Collection[int] | None) -> list[int]:
    return [place for place in places if among is None or place in among]


def _only(places: Iterable[int], among: Collection[int] | None) -> int:
    left = _left(places, among)
    if len(left) != 1:
        raise _Ambiguous
    return left[0]


def _numbers(name: str) -> list[str]:
    return [c for word in numbered(name) for c in re.findall(r"\d+", word)]


def _singular(name: str) -> list[str]:
    return [word.removesuffix("s") for word in name.split()]
