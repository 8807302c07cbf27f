"""Titles as people write them: normalisation, and the names that one title has.

A title in a catalogue, such as "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
has a stem, brackets and a year. `names_of` lists its other names, and how each was derived. Only a
catalogue can say whether a name is unambiguous (`agents.core.grounding`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

NameKind = Literal["title", "article", "second_name", "subtitle_left_out", "after_colon"]


class Name(NamedTuple):
    """`text` is folded, without a year. With `needs_year` it means the title only if its year is
    given: one word of a longer title, or a series without the number of its part."""

    text: str
    kind: NameKind
    needs_year: bool = False


class Parts(NamedTuple):
    """A title taken apart; articles are in front again."""

    stem: str
    brackets: tuple[str, ...]
    year: str | None

    @property
    def folded(self) -> str:
        """The whole title without its year."""
        return fold(" ".join((self.stem, *self.brackets)))


# Letters that NFKD leaves alone, and marks that are ignored. An apostrophe is dropped:
# "Schindlers List" is "Schindler's List".
_LETTERS = str.maketrans(
    "øØłŁđĐð", "oOlLdDd", "'\u2018\u2019\u02bc`\u00b4\u2122\u00ae\u00a9"
) | str.maketrans({"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH", "&": " and "})
_INITIALS = re.compile(r"\b(\w)\.(?=\w\b)")
_PUNCTUATION = re.compile(r"[^\w\s]|_")
_YEAR = re.compile(r"(?:18|19|20)\d\d")
_ARTICLES = (
    "the|a|an|le|la|les|l'|un|une|il|lo|i|gli|uno|una|el|los|las|der|die|das|ein|eine|den|det|de|het"
    "|o|os|as|um|uma"
)
_MOVED = re.compile(rf"^(.*\S)\s*,\s*({_ARTICLES})$", re.IGNORECASE | re.DOTALL)
_LEADING = re.compile(r"^(?:the|a|an) (?=\S)")
_ALSO_KNOWN = re.compile(r"^(?:a\.?\s?k\.?\s?a\.?|also known as|aka)\b[\s.:]*", re.IGNORECASE)
_SEGMENTS = re.compile(r"\s*(?:,?\s+or:|,\s+or\b|:)\s+|\s+[-\u2013\u2014]\s+")
_DANGLING = re.compile(r"(?<=\S) or$")  # Birdman or (The Unexpected Virtue of Ignorance)
_ALTERNATIVE = re.compile(r",?\s+or:\s|,\s+or\s", re.IGNORECASE)
# In brackets or after a colon these name no title, but an edition, a medium or one of several.
_NO_NAMES = frozenset(
    str.split(
        """
        movie film game motion picture video tv series musical story true beginning final chapter
        cut uncut directors director special deluxe collectors anniversary complete definitive
        enhanced ultimate gold standard classic remastered remake remaster redux hd vr beta alpha
        demo prologue early access dlc pack bundle soundtrack ost edition version collection trilogy
        year original new us uk europe japan ps4 pc online free to play episode part volume vol
        season the a an of and in on
        """
    )
)
_SMALL_WORDS = frozenset(
    ("the", "a", "an", "of", "and", "or", "in", "on", "to", "for", "at", "by", "with", "from")
)
_COUNTED = frozenset(("part", "episode", "chapter", "volume", "vol", "book", "act", "season"))
# Without I, V and X, which are letters more often than numbers.
_ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9}
_ROMAN |= {"xi": 11, "xii": 12, "xiii": 13, "xiv": 14, "xv": 15, "xvi": 16}
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
_WORDS += ("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen")
_WORDS += ("nineteen", "twenty")
_NUMBERS = {word: str(value) for word, value in _ROMAN.items()}
_NUMBERS |= {word: str(value) for value, word in enumerate(_WORDS, start=1)}
# In front of another word: "Doctor Strangelove", but "The Saint".
_ABBREVIATED = {"doctor": "dr", "mister": "mr", "saint": "st", "versus": "vs"}
_AFTER_BRACKET = re.compile(r"(?<=[)\]])[\s.,;:!?\"'*_\u201d\u2019]+$")


@lru_cache(maxsize=65536)
def fold(text: str) -> str:
    """Lower case, no accents, no punctuation, single spaces; "&" is "and", "E.T." is "et"."""
    text = text.translate(_LETTERS)
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.combining(c))
    text = _INITIALS.sub(r"\1", text.casefold())
    return " ".join(_PUNCTUATION.sub(" ", text).split())


def parse_title(title: str) -> Parts:
    """The parts of a title. Brackets in the middle belong to the stem; punctuation after the last
    one does not."""
    rest, brackets, year = _AFTER_BRACKET.sub("", title.strip()), [], None
    while rest.endswith((")", "]")):
        start = max(rest.rfind("("), rest.rfind("["))
        inner = rest[start + 1 : -1].strip()
        if start <= 0 or ")" in inner or "]" in inner:
            break
        if year is None and _YEAR.fullmatch(inner):
            year = inner
        else:
            brackets.append(article_in_front(inner))
        rest = rest[:start].rstrip()
    return Parts(article_in_front(rest), tuple(reversed(brackets)), year)


def article_in_front(text: str) -> str:
    """ "Matrix, The" is "The Matrix"."""
    moved = _MOVED.match(text)
    if moved is None:
        return text
    article, rest = moved[2], moved[1]
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"


def without_article(name: str) -> str:
    """A folded name less an English article in front."""
    return _LEADING.sub("", name)


def numbered(name: str) -> list[str]:
    """The words of a folded name, with numbers as digits and forms of address abbreviated: "part
    ii" is "part 2", "doctor who" is "dr who"."""
    words = name.split()
    last = len(words) - 1
    for place, word in enumerate(words):
        number = _NUMBERS.get(word) or (_ABBREVIATED.get(word) if place < last else None)
        if number is None and place:  # a letter in front is a word: "I, Robot", "V for Vendetta"
            if word in ("v", "x"):
                number = "5" if word == "v" else "10"
            elif word == "i" and (place == last or words[place - 1] in _COUNTED):
                number = "1"
        if number is not None:
            words[place] = number
    return words


def loose(name: str) -> str:
    """What is left of a folded name where neither spaces, its article nor the way of writing a
    number matter."""
    return "".join(numbered(without_article(name)))


def content_words(name: str) -> list[str]:
    """The meaningful words of a folded name."""
    return [word for word in name.split() if word not in _SMALL_WORDS]


def names_of(title: str) -> tuple[Name, ...]:
    """All names of `title`, its own first, each once. Which of them are ambiguous is not known."""
    parts = parse_title(title)
    found: dict[str, Name] = {}
    for name in _names(title, parts):
        if name.text and not (name.text in found and not found[name.text].needs_year):
            found[name.text] = name
    return tuple(found.values())


def _names(title: str, parts: Parts) -> Iterator[Name]:
    yield Name(parts.folded, "title")
    stem = _DANGLING.sub("", fold(parts.stem))
    if not parts.brackets:
        yield from _less_article(parts.stem, stem, title, "article")
    else:
        # "Rebels (Part 2)" is "Rebels" only together with its year.
        part = any(map(counts_a_part, map(fold, parts.brackets)))
        yield Name(stem, "second_name", part or _only_number(stem))
        if not part:
            yield from _less_article(parts.stem, stem, title, "second_name")
    for bracket in parts.brackets:
        yield from _second_names(bracket, title)
    yield from _segment_names(parts.stem, series=False)


def _less_article(raw: str, name: str, title: str, kind: NameKind) -> Iterator[Name]:
    """`name` without its article: an English one, or one that the title had moved to the end."""
    bare = without_article(name)
    if bare == name:
        moved = _MOVED.match(raw) is None and re.match(rf"({_ARTICLES})\s*(?=\S)", raw, re.I)
        if not moved or f", {moved[1].casefold()}" not in title.casefold():
            return
        bare = fold(raw[moved.end() :])
    if bare != name and not _only_number(bare):
        yield Name(bare, kind)


def _second_names(bracket: str, title: str) -> Iterator[Name]:
    known = _ALSO_KNOWN.match(bracket)
    inner = bracket[known.end() :] if known else bracket
    several = [part for part in re.split(r",\s+|\s*/\s*", inner) if part] if known else []
    for text in dict.fromkeys((inner, *several)):
        text = article_in_front(text)
        name = fold(text)
        if not is_name(name) or (text != inner and len(content_words(name)) < 2):
            continue
        yield Name(name, "second_name")
        yield from _less_article(text, name, title, "second_name")
        yield from _segment_names(text, series=True)


def _segment_names(raw: str, *, series: bool) -> Iterator[Name]:
    """Names made of some of the segments that colons and dashes divide a title into.

    With `series` they are of a name in brackets, which is less well known.
    """
    segments = [fold(part) for part in _SEGMENTS.split(raw)]
    segments = [segment for segment in segments if segment]
    alternative = _ALTERNATIVE.search(raw) is not None
    for cut in range(1, len(segments)):
        head, tail = " ".join(segments[:cut]), " ".join(segments[cut:])
        numbers = any(map(_has_number, segments[cut:]))
        few = len(content_words(head)) < 2 and not alternative
        if not _only_number(head):
            yield Name(head, "subtitle_left_out", series or numbers or few)
        if is_name(tail) and not _only_number(tail):
            few = len(content_words(tail)) < 2
            yield Name(tail, "after_colon", series or few)
    if len(segments) > 2 and not series and is_name(segments[-1]):
        yield Name(f"{segments[0]} {segments[-1]}", "subtitle_left_out")


def is_name(name: str) -> bool:
    """Whether a folded text is a name, and not an edition, a medium or the number of a part."""
    words = name.split()
    return len(name) > 1 and not all(w in _NO_NAMES or _is_number(w, words) for w in words)


def counts_a_part(name: str) -> bool:
    """Whether a folded text is the number of a part and nothing else: "part ii"."""
    return not is_name(name) and _has_number(name)


def _only_number(name: str) -> bool:
    words = name.split()
    return all(word in _COUNTED or _is_number(word, words) for word in words)


def _is_number(word: str, words: list[str]) -> bool:
    """Digits and Roman numerals are; "seven" is where a part is counted ("Part Seven")."""
    if word.isdigit() or word in _ROMAN or word in ("i", "v", "x"):
        return True
    return word in _NUMBERS and not _COUNTED.isdisjoint(words)


def _has_number(name: str) -> bool:
    """Whether a folded name counts something: a sequel may differ in that alone."""
    return any(word.isdigit() for word in numbered(f"part {name}"))
