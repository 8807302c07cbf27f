"""Words as the built-in network reads them: a vocabulary from its training text.

Words are lower-case; signs are words of their own. What is not in the vocabulary falls into one of
`BUCKETS` places by its hash, so that no text is unreadable.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PADDING, READ_OUT, BREAK = 0, 1, 2
"""Places of the vocabulary that are not words: nothing, where the network reads out, a new line."""
BUCKETS = 64
_FIRST = 3  # place of the first bucket; words follow the buckets
_WORD = re.compile(r"\n|[a-z0-9']+|[^\sa-z0-9']")


def vocabulary_of(texts: Iterable[str], most: int) -> list[str]:
    """The at most `most` most frequent words that occur twice, most frequent first."""
    counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    counts.pop("\n", None)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [word for word, count in ranked[:most] if count > 1]


def size_of(vocabulary: Sequence[str]) -> int:
    """How many places there are for words, signs and what is not a word."""
    return _FIRST + BUCKETS + len(vocabulary)


def word_places(vocabulary: Sequence[str]) -> dict[str, int]:
    """Word -> its place."""
    return {word: _FIRST + BUCKETS + rank for rank, word in enumerate(vocabulary)}


def word_ids(text: str, places: Mapping[str, int], context: int) -> np.ndarray:
    """(at most `context`,), int64: the places of the text's last words, then `READ_OUT`."""
    # A word has at least one character, so nothing of the end is cut off here.
    words = _WORD.findall(text[-context * 40 :].lower())[-(context - 1) :]
    return np.array([*(_place(word, places) for word in words), READ_OUT], np.int64)


def _place(word: str, places: Mapping[str, int]) -> int:
    if word == "\n":
        return BREAK
    found = places.get(word)
    return _FIRST + zlib.crc32(word.encode()) % BUCKETS if found is None else found
