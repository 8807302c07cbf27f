"""Grounding: from a title that a model wrote to the item it means, or to nothing.

- Exact after normalisation first: case, accents, punctuation, a moved article ("Matrix, The"),
  and a missing year where only one item has that title.
- Then fuzzy: `rapidfuzz.fuzz.ratio` of at least `FUZZY_CUTOFF`, the same digits (sequels, years),
  and no second title as close. The score is recorded.
- Anything else is ungrounded. It is counted, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import fuzz, process

# At 90, a title of 20 characters may differ in two; "Alien" and "Aliens" (score 90.9) are kept
# apart by the exact match, which comes first.
FUZZY_CUTOFF = 90.0
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"^(.*), (the|a|an|le|la|les|il|el|das|der|die)$")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_SPACES = re.compile(r"\s+")
_DIGITS = re.compile(r"\d+")


class Grounded(NamedTuple):
    """`place` is the title's position in the list; `score` is 100 for an exact match."""

    place: int
    score: float


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


def without_year(title: str) -> str:
    """`title` less a trailing year in brackets."""
    return _YEAR.sub("", title)


class TitleIndex:
    """Finds titles of one catalogue. Look-ups are remembered: models repeat themselves."""

    def __init__(self, titles: Sequence[str]) -> None:
        self._normal = [normalise(title) for title in titles]
        self._raw = _only_unique(titles)
        self._exact = _only_unique(self._normal)
        self._yearless = _only_unique([normalise(without_year(title)) for title in titles])
        self._fuzzy = lru_cache(maxsize=65536)(self._fuzzy_uncached)

    def ground(self, title: str) -> Grounded | None:
        """The one item that `title` means, or None."""
        raw = self._raw.get(title)
        if raw is not None:
            return Grounded(raw, 100.0)
        wanted = normalise(title)
        if not wanted:
            return None
        exact = self._exact.get(wanted)
        if exact is None:
            exact = self._yearless.get(wanted)
        if exact is not None:
            return Grounded(exact, 100.0)
        return self._fuzzy(wanted)

    def _fuzzy_uncached(self, wanted: str) -> Grounded | None:
        best = process.extract(
            wanted, self._normal, scorer=fuzz.ratio, score_cutoff=FUZZY_CUTOFF, limit=2
        )
        if not best or (len(best) == 2 and best[0][1] == best[1][1]):
            return None
        text, score, index = best[0]
        if _DIGITS.findall(text) != _DIGITS.findall(wanted):
            return None
        return Grounded(index, round(score, 2))


def _only_unique(titles: Sequence[str]) -> dict[str, int]:
    """Position of every title that stands in the list once."""
    found: dict[str, int] = {}
    double: set[str] = set()
    for index, title in enumerate(titles):
        if found.setdefault(title, index) != index:
            double.add(title)
    return {title: index for title, index in found.items() if title not in double}
