"""Worked plans, written by us, of which a prompt shows those most like the user's words."""

from __future__ import annotations

import re
from typing import NamedTuple

_WORD = re.compile(r"[a-z0-9]+")
_EMPTY_WORDS = "a am an and be by for i is it me my of one or please that the this to want would"
_EMPTY = frozenset(_EMPTY_WORDS.split())


class Demonstration(NamedTuple):
    """What a user said about a table of these columns, and a good plan (JSON, as replied)."""

    request: str
    columns: str
    plan: str


def nearest(words: str, count: int) -> list[Demonstration]:
    """The `count` demonstrations whose requests share most of their words with `words`.

    By Jaccard similarity of the sets of words that mean something, ties in the order they are
    written here.
    """
    said = _words(words)
    return sorted(DEMONSTRATIONS, key=lambda d: -_jaccard(said, _words(d.request)))[:count]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _EMPTY


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))


DEMONSTRATIONS = (
    Demonstration(
        "Hi, can you recommend something to me?",
        "genre VARCHAR[], decade VARCHAR",
        '{"action": "ask", "look_up": null, "hard": null, "similar": [], "rank_by": "preference"}',
    ),
    Demonstration(
        "I would like a thriller or a crime film from the 1990s.",
        "genre VARCHAR[], decade VARCHAR",
        '{"action": "recommend", "look_up": null, "hard": "SELECT item_id FROM items WHERE '
        "list_has_any(genre, ['Thriller', 'Crime']) AND decade = '1990s'\", "
        '"similar": [], "rank_by": "preference"}',
    ),
    Demonstration(
        "I want a game with genre Puzzle and mood calm.",
        "genre VARCHAR[], mood VARCHAR",
        '{"action": "recommend", "look_up": null, "hard": "SELECT item_id FROM items WHERE '
        "list_contains(genre, 'Puzzle') AND mood = 'calm'\", "
        '"similar": [], "rank_by": "preference"}',
    ),
    Demonstration(
        "Something similar to Northern Harbour, please, I loved that one.",
        "tags VARCHAR[], price DOUBLE",
        '{"action": "recommend", "look_up": null, "hard": null, '
        '"similar": ["Northern Harbour"], "rank_by": "similarity"}',
    ),
    Demonstration(
        "Games like Northern Harbour, but for less than 10 dollars and not a shooter.",
        "tags VARCHAR[], price DOUBLE",
        '{"action": "recommend", "look_up": null, "hard": "SELECT item_id FROM items WHERE '
        "price < 10 AND NOT list_contains(tags, 'Shooter')\", "
        '"similar": ["Northern Harbour"], "rank_by": "similarity"}',
    ),
    Demonstration(
        "Who made Lantern Road? I would like another one by the same maker.",
        "maker VARCHAR, genre VARCHAR[]",
        '{"action": "recommend", "look_up": "SELECT item_id FROM items WHERE title ILIKE '
        '\'%Lantern Road%\'", "hard": "SELECT item_id FROM items WHERE maker IN (SELECT maker '
        "FROM items WHERE title ILIKE '%Lantern Road%')\", "
        '"similar": [], "rank_by": "preference"}',
    ),
    Demonstration(
        "No, none of these is what I am looking for. It should be a hair care product by Avena.",
        "category VARCHAR[], brand VARCHAR",
        '{"action": "recommend", "look_up": null, "hard": "SELECT item_id FROM items WHERE '
        "list_contains(category, 'Hair Care') AND brand = 'Avena'\", "
        '"similar": [], "rank_by": "preference"}',
    ),
    Demonstration(
        "I am not sure, something exciting maybe, I have no more details.",
        "genre VARCHAR[], decade VARCHAR",
        '{"action": "recommend", "look_up": null, "hard": "SELECT item_id FROM items WHERE '
        "list_has_any(genre, ['Action', 'Thriller'])\", "
        '"similar": [], "rank_by": "preference"}',
    ),
)
