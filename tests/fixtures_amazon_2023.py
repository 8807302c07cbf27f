"""Small made-up data in the layouts of Amazon Reviews 2023 and of CSI's authors. None is real."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fixtures_reviews import Row, write_gz

CATEGORY = "Clothing_Shoes_and_Jewelry"
ROOT = "Clothing, Shoes & Jewelry"
START_MS = 1_600_000_000_000
DAY_MS = 86_400_000
PATHS = (
    (ROOT, "Women", "Clothing", "Jeans"),
    (ROOT, "Women", "Clothing", "Sweaters"),
    (ROOT, "Men", "Clothing", "Jeans"),
    (ROOT, "Men", "Shoes", "Sandals"),
    (ROOT, "Men", "Shoes", "Athletic", "Walking"),
)
NOUNS = {"Jeans": "Denim", "Sweaters": "Pullover", "Sandals": "Slide", "Walking": "Trainer"}


def path_of(item: str) -> tuple[str, ...]:
    return PATHS[int(item.removeprefix("B")) % len(PATHS)]


def price_of(item: str) -> float:
    return 9.99 + 5 * (int(item.removeprefix("B")) // len(PATHS) % 9)


def product(item: str, **fields: Any) -> dict[str, Any]:
    path = path_of(item)
    number = int(item.removeprefix("B"))
    return {
        "main_category": "AMAZON FASHION",
        "title": f"Kotoshiro {NOUNS[path[-1]]} No. {number}",
        "average_rating": 3.0 + number % 20 / 10,
        "rating_number": 100 + number,
        "features": ["Soft &amp; light", f"Colour {number % 7}"],
        "description": [f"A {path[-1].lower()} item for everyday wear."],
        "price": price_of(item),
        "images": [],
        "videos": [],
        "store": f"Store {number % 4}",
        "categories": list(path),
        "details": {"Department": path[1]},
        "parent_asin": item,
        "bought_together": None,
        **fields,
    }


def review(row: Row, **fields: Any) -> dict[str, Any]:
    return {
        "rating": row.rating,
        "title": f"Good {row.item}",
        "text": f"I bought this because it is comfortable. Day {row.day}.",
        "images": [],
        "asin": row.item,
        "parent_asin": row.item,
        "user_id": row.user,
        "timestamp": START_MS + row.day * DAY_MS,
        "helpful_vote": 0,
        "verified_purchase": True,
        **fields,
    }


def rows(users: int = 60, items: int = 45, each: int = 14, seed: int = 0) -> list[Row]:
    """`each` reviews of every user, shuffled."""
    rng = random.Random(seed)
    found = []
    for user in range(users):
        day = rng.randrange(100)
        for item in rng.sample(range(items), each):
            day += rng.randrange(1, 5)
            found.append(Row(f"AE{user:04d}", f"B{item:04d}", day, float(rng.randrange(1, 6))))
    rng.shuffle(found)
    return found


def write_products(
    folder: Path, products: Sequence[Mapping[str, Any]], *, category: str = CATEGORY
) -> Path:
    write_gz(folder / f"meta_{category}.jsonl.gz", [json.dumps(one) for one in products])
    return folder


def write_amazon_2023(
    folder: Path,
    reviews: Sequence[Row] | None = None,
    products: Sequence[Mapping[str, Any]] | None = None,
    *,
    category: str = CATEGORY,
) -> Path:
    """A folder with the official files."""
    reviews = rows() if reviews is None else reviews
    if products is None:
        products = [product(item) for item in sorted({row.item for row in reviews})]
    write_products(folder, products, category=category)
    write_gz(folder / f"{category}.jsonl.gz", [json.dumps(review(row)) for row in reviews])
    return folder


def profile(user: str, **fields: Any) -> dict[str, Any]:
    """A line of our own layout."""
    return {
        "user": user,
        "general_preference": "I like soft things that last.",
        "target_needs": "I need something comfortable for everyday wear.",
        "purchase_reasons": ["I wanted something for the winter."],
        "category_path": list(PATHS[0]),
        "budget": [14.99, 24.99],
        "style": "Rational",
        "openness": "Active",
        **fields,
    }


def published_profile(**fields: Any) -> dict[str, Any]:
    """An element of the authors' list, with some of what else it has."""
    return {
        "user_data": {
            "target_needs": "I need something comfortable for everyday wear.",
            "budget": [14.99, 24.99],
            "purchase_reason": ["I wanted something for the winter."],
            "target_category": ["Clothing Shoes & Jewelry", "Women", "Clothing", "Jeans"],
            "decision_making_style": "Rational",
            "general_preference": "I generally prefer soft things that last.",
            "dialogue_openness": "Less Active",
            **fields,
        },
        "conversation": [],
        "sr": 0,
    }


def write_profiles(path: Path, profiles: Sequence[Mapping[str, Any]]) -> Path:
    """In our own layout."""
    path.write_text("".join(f"{json.dumps(one)}\n" for one in profiles))
    return path


def profiles_of(users: Sequence[str]) -> list[dict[str, Any]]:
    """Profiles in which all groups occur, with the budgets and paths of several kinds."""
    return [
        profile(
            user,
            openness=("Active", "Neutral", "Passive")[n % 3],
            style=("Rational", "Dependent", "Intuitive")[n // 3 % 3],
            category_path=list(PATHS[n % len(PATHS)]),
            budget=[9.99 + n % 4, 19.99 + n % 7],
        )
        for n, user in enumerate(users)
    ]
