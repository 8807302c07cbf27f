"""Finds the attribute values of a catalogue in text, as whole words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from agents.core.grounding import normalise
from agents.core.items import Item

_LONGEST_PHRASE = 4  # words in an attribute value that is still recognised
_WORD = re.compile(r"\w+")


class Phrases:
    """Finds attribute values in text.

    `places` maps a value, in plain words, to the ascending positions of the items that have it, of
    shape (n,).
    """

    def __init__(self, items: Sequence[Item]) -> None:
        where: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            for values in item.attributes.values():
                for phrase in dict.fromkeys(plain_words(values)):
                    if phrase:
                        places = where.setdefault(phrase, [])
                        if not places or places[-1] != position:
                            places.append(position)
        self.places = {phrase: np.array(places) for phrase, places in where.items()}

    def named_in(self, text: str) -> tuple[str, ...]:
        """The values named in `text`, the longest match first, each once, in order."""
        words = _WORD.findall(normalise(text))
        found: dict[str, None] = {}
        at = 0
        while at < len(words):
            for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                if phrase in self.places:
                    found[phrase] = None
                    at += length
                    break
            else:
                at += 1
        return tuple(found)


def plain_words(values: Iterable[str]) -> list[str]:
    """Each of `values` in lower case, without accents and punctuation."""
    return [" ".join(_WORD.findall(normalise(value))) for value in values]
