"""How often a profile's check for named items finds a part of a title, and how often it errs.

`python -m tests.bench.item_names FILE...` reads the JSON lines of a sample of Amazon Reviews 2023:
objects with `user_id`, `category`, `history` and `heldout`, of purchases with `parent_asin`,
`product.title` and `review_full`. It prints how many partial titles are found, and how many reviews
are said to name an item of their category that their writer has not bought. The sample has
no stores, so that a brand is known by the first word of a title alone.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from agents.core.items import Catalogue, Item
from simulators.domains.core.profiling.naming import ItemNames

_OTHERS = 50  # items that a review is compared with, at most
_LONGEST_REVIEW = 1000  # characters, as in the prompts
_END_OF_PHRASE = re.compile(r"[,|(\u2013-]| for | with ")


def _first(words: int) -> Callable[[list[str]], str | None]:
    return lambda title: " ".join(title[:words]) if len(title) >= 6 else None


def _brand_and_kind(title: list[str]) -> str | None:
    phrase = _END_OF_PHRASE.split(" ".join(title))[0].split()
    return f"{title[0]} {phrase[-1].lower()}" if len(phrase) >= 3 and len(title) >= 6 else None


PARTS: dict[str, Callable[[list[str]], str | None]] = {
    "all but the last word": lambda t: " ".join(t[:-1]) if len(t) >= 4 else None,
    "first half": lambda t: " ".join(t[: len(t) // 2]) if len(t) >= 8 else None,
    "first four words": _first(4),
    "first three words": _first(3),
    "first word, and last word of the first phrase": _brand_and_kind,
}


def main(paths: list[Path]) -> None:
    users = [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]
    items: dict[str, Item] = {}
    of_category: dict[str, list[str]] = defaultdict(list)
    bought: dict[str, set[str]] = defaultdict(set)
    reviews: list[tuple[str, str, str]] = []
    for user in users:
        for purchase in (*user["history"], user["heldout"]):
            number, title = purchase["parent_asin"], purchase["product"]["title"]
            if not title:
                continue
            if number not in items:
                path = (user["category"].replace("_", " "),)
                items[number] = Item(number, title[:200], {"category": path})
                of_category[user["category"]].append(number)
            bought[user["user_id"]].add(number)
            reviews.append((user["user_id"], user["category"], purchase["review_full"] or ""))
    names = ItemNames(Catalogue(list(items.values()), noun="product"))
    by_id = sum(names.named(f"I bought {i.id}.", [i]) is not None for i in items.values())
    print(f"ID: found {by_id:,} of {len(items):,} ({by_id / len(items):.1%})")
    for label, part_of in PARTS.items():
        parts = [(item, part_of(item.title.split())) for item in items.values()]
        asked = [(item, f"I wanted the {part} for work.") for item, part in parts if part]
        found = sum(names.named(text, [item]) is not None for item, text in asked)
        print(f"{label}: found {found:,} of {len(asked):,} ({found / len(asked):.1%})")
    rng = random.Random(0)
    wrong, pairs, reviews_read = 0, 0, 0
    for user, category, review in reviews:
        text = re.sub(r"<[^>]+>", " ", review)[:_LONGEST_REVIEW]
        pool = [number for number in of_category[category] if number not in bought[user]]
        others = [items[number] for number in rng.sample(pool, min(_OTHERS, len(pool)))]
        if text.strip():
            reviews_read += 1
            pairs += len(others)
            wrong += sum(names.named(text, [item]) is not None for item in others)
    print(
        f"{reviews_read:,} reviews: {wrong:,} of {pairs:,} pairs with an item that was not bought, "
        f"{1e4 * wrong / pairs:.1f} of 10,000"
    )


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
