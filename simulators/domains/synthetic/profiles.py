"""Profiles of the synthetic users: characters are drawn, wishes follow from the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agents.core.items import Item
from simulators.core.profiles import OPENNESS, STYLES, BuyerBudget, BuyerProfile, Openness, Style
from simulators.domains.synthetic.items import PROFILES, uniform


def make_profile(seed: int, number: int, target: Item, history: Sequence[Item]) -> BuyerProfile:
    """The profile of user `number`. It names no title."""
    openness, style, width = _draw(seed, number)
    known = {name: values[0] for name, values in target.attributes.items()}
    liked = Counter(item.attributes["genre"][0] for item in history).most_common(2)
    price = target.price or 0.0
    return BuyerProfile(
        f"I generally prefer {' and '.join(genre for genre, _ in liked)} games.",
        f"I want a {known['subgenre']} game about {known['theme']} that feels {known['mood']}.",
        (f"I want to spend the evenings with something {known['mood']}.",),
        (known["genre"], known["subgenre"], known["theme"]),
        BuyerBudget(round(price * (1 - width / 2), 2), price),
        style,
        openness,
    )


def profile_groups(seed: int, number: int) -> dict[str, str]:
    """What `make_profile(...).groups` is."""
    openness, style, _ = _draw(seed, number)
    return {"openness": openness, "style": style}


def _draw(seed: int, number: int) -> tuple[Openness, Style, float]:
    first, second, third, _ = uniform(seed, PROFILES, number, 1, 4)[0].tolist()
    return OPENNESS[int(first * 3)], STYLES[int(second * 3)], third
