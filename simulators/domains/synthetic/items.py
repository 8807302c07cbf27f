"""The synthetic catalogue: a tree of tastes, and games with invented titles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.core.items import Item

# Streams of random words, one for each thing that is drawn.
_ITEMS, USERS, _TITLES, PROFILES = 0, 1, 2, 3
_ITEM_DRAWS = 12
# Makers of one subgenre.
_MAKERS = 12

_GENRES = (
    "Adventure Mystery Strategy Puzzle Racing Fantasy Survival Comedy Trading Farming Music Horror"
)
_QUALIFIERS = (
    "Harbour Winter Clockwork Desert Orbital Medieval Jungle Neon Island Theatre Rural Deep-sea"
)
_THEME_FIRST = (
    "lost hidden rival broken borrowed ancient haunted forgotten runaway stolen enchanted mistaken "
    "floating silent forbidden"
)
_THEME_SECOND = (
    "letters families maps machines gardens bridges recipes twins lighthouses inheritances trains "
    "festivals animals"
)
_MOODS = "calm tense playful eerie warm gloomy hopeful absurd solemn lively dreamy bitter"
_SYLLABLES = (
    "vel mor tas rin kol dap zuf hes bri gol nim wex cas thu pir lod yan fep sku dro qui mab jor "
    "elt ash und ovi ix ral ste bao fum"
)
_NOUNS = (
    "Lantern River Orchard Compass Engine Parade Winter Kingdom Harvest Voyage Citadel Garden "
    "Mirror Thunder Carnival Workshop Island Signal Feather Cathedral Bakery Horizon Labyrinth "
    "Market Glacier Ballad Tournament Meadow Fortress Railway Phantom Sapphire Caravan Whisper "
    "Observatory Dungeon Canyon Regatta Embassy Monsoon Puppet Volcano Archive Falcon Treaty "
    "Cinema Quarry Sundial Blizzard Academy Bazaar Comet Duchess Eclipse Foundry Gallery Hermit "
    "Illusion Jubilee Kitchen Legacy Museum Nocturne Oasis Pilgrim Quest Rebellion Sanctuary "
    "Tavern Uprising Valley Windmill Xylophone Yearbook Zeppelin Alchemy Beacon Cottage Dynasty "
    "Expedition Frontier Guardian Hotel Inferno Jungle Keepsake Locomotive Masquerade Nomad Opera "
    "Pyramid Quilt Refuge Symphony Trophy Umbrella Vineyard Waterfall Yacht Zodiac Aqueduct "
    "Bonfire Chandelier Drifter"
)
_HOUSES = "Works Studio Games House"
_GENRE = tuple(_GENRES.split())
_QUALIFIER = tuple(_QUALIFIERS.split())
_FIRST = tuple(_THEME_FIRST.split())
_SECOND = tuple(_THEME_SECOND.split())
_MOOD = tuple(_MOODS.split())
_SYLLABLE = tuple(_SYLLABLES.split())
_NOUN = tuple(_NOUNS.split())
_HOUSE = tuple(_HOUSES.split())


class TreeSizes(NamedTuple):
    """How many genres, subgenres a genre and themes a subgenre there are."""

    genres: int
    subgenres: int
    themes: int

    @property
    def leaves(self) -> int:
        return self.genres * self.subgenres * self.themes


def uniform(seed: int, stream: int, first: int, count: int, width: int) -> np.ndarray:
    """Rows `first` and on of an endless table of `width` (a multiple of 4) numbers in [0, 1)."""
    key = np.array([seed, stream], dtype=np.uint64)
    counter = np.array([first * (width // 4), 0, 0, 0], dtype=np.uint64)
    # Raw words, because numpy promises these alone never to change between versions.
    words = np.random.Philox(key=key, counter=counter).random_raw(count * width)
    return ((words >> np.uint64(11)) * 2.0**-53).reshape(count, width)


def tree_for(items: int) -> TreeSizes:
    # About ten items a theme, as far as the words go.
    if items < 100:
        return TreeSizes(4, 2, 1)
    return TreeSizes(8, 3, 2) if items < 1500 else TreeSizes(12, 4, 4)


def leaf_bounds(tree: TreeSizes, items: int) -> np.ndarray:
    """Slots of leaf i: from bounds[i] up to bounds[i + 1]."""
    return np.arange(tree.leaves + 1) * items // tree.leaves


def slots(seed: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Popularity (whole numbers) and catalogue position of every slot."""
    draws = uniform(seed, _ITEMS, 0, items, _ITEM_DRAWS)
    rank = np.argsort(np.argsort(draws[:, 0], kind="stable"), kind="stable")
    # A long tail: the first is picked about 20 times as often as the last.
    weights = 1_000_000_000 // (rank + items // 20 + 1)
    return weights, np.argsort(draws[:, 1], kind="stable").astype(np.int32)


def make_items(seed: int, items: int) -> list[Item]:
    """The catalogue, in catalogue order."""
    tree = tree_for(items)
    draws = uniform(seed, _ITEMS, 0, items, _ITEM_DRAWS)
    _, positions = slots(seed, items)
    bounds = leaf_bounds(tree, items)
    leaves = np.searchsorted(bounds, np.arange(items), side="right") - 1
    slot_of = np.argsort(positions, kind="stable")
    titles = _titles(seed, items)
    return [
        _make_item(position, titles[position], tree, leaf, row)
        for position, leaf, row in zip(
            range(items),
            leaves[slot_of].tolist(),
            draws[slot_of].tolist(),
            strict=True,
        )
    ]


def _make_item(position: int, title: str, tree: TreeSizes, leaf: int, draws: list[float]) -> Item:
    """One item of a leaf; `draws` are its own numbers, the first two of them spent."""
    subgenre, genre = leaf // tree.themes, leaf // (tree.themes * tree.subgenres)
    second_genre = (genre + 1 + int(draws[2] * (tree.genres - 1))) % tree.genres
    # Siblings share moods and makers, so that these say something about taste, too.
    mood = (subgenre * 7 + int(draws[3] * 3)) % len(_MOOD)
    second_mood = (mood + 1 + int(draws[4] * (len(_MOOD) - 1))) % len(_MOOD)
    maker = _maker(subgenre, int(draws[5] * _MAKERS))
    era = f"{1970 + 10 * int(draws[6] * 6)}s"
    theme = _theme(leaf)
    second_theme = _theme((leaf + 1 + int(draws[7] * (tree.leaves - 1))) % tree.leaves)
    words = _subgenre(genre, subgenre % tree.subgenres)
    attributes = {
        "genre": (_GENRE[genre], *((_GENRE[second_genre],) if draws[8] < 0.2 else ())),
        "subgenre": (words,),
        "theme": (theme, *((second_theme,) if draws[9] < 0.25 else ())),
        "mood": (_MOOD[mood], *((_MOOD[second_mood],) if draws[10] < 0.4 else ())),
        "era": (era,),
        "maker": (maker,),
    }
    article = "An" if _MOOD[mood][0] in "aeiou" else "A"
    description = f"{article} {_MOOD[mood]} {words.lower()} game about {theme}, by {maker}."
    price = (500 + int(draws[11] * draws[11] * 75) * 100 - 1) / 100
    return Item(f"i{position}", title, attributes, description, price)


def _subgenre(genre: int, place: int) -> str:
    return f"{_QUALIFIER[(genre * 5 + place) % len(_QUALIFIER)]} {_GENRE[genre]}"


def _theme(leaf: int) -> str:
    """A name of its own for each leaf: 15 and 13 words share no factor, so 195 pairs differ."""
    return f"{_FIRST[leaf % len(_FIRST)]} {_SECOND[leaf % len(_SECOND)]}"


def _maker(subgenre: int, place: int) -> str:
    number = subgenre * _MAKERS + place
    first = number % len(_SYLLABLE)
    second = (number // len(_SYLLABLE) + 5 * first) % len(_SYLLABLE)
    name = f"{_SYLLABLE[first]}{_SYLLABLE[second]}".capitalize()
    return f"{name} {_HOUSE[number % len(_HOUSE)]}"


def _titles(seed: int, items: int) -> list[str]:
    """A made-up name and a noun each, all different."""
    # The third syllable is a check: two names differ in two syllables or more, so that a slip of a
    # letter does not make one title of another.
    base = len(_SYLLABLE)
    every = base * base * len(_NOUN)
    order = np.argsort(uniform(seed, _TITLES, 0, -(-every // 4), 4).ravel()[:every], kind="stable")
    titles = []
    for code in order[:items].tolist():
        noun, name = _NOUN[code % len(_NOUN)], code // len(_NOUN)
        a, b = divmod(name, base)
        made_up = f"{_SYLLABLE[a]}{_SYLLABLE[b]}{_SYLLABLE[(a + b) % base]}".capitalize()
        titles.append(f"{noun} of {made_up}" if code % 2 else f"{made_up} {noun}")
    return titles
