"""Small made-up data in the published layouts of Steam and Amazon. Nothing in it is real."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

DAY = 86_400
START = 1_500_000_000 // DAY * DAY


class Row(NamedTuple):
    user: str
    item: str
    day: int = 0
    rating: float = 5.0


def rows(users: int = 30, items: int = 40, each: int = 28, seed: int = 0) -> list[Row]:
    """`each` reviews of every user, shuffled; about nine in ten are rated 3 or more."""
    rng = random.Random(seed)
    found = []
    for user in range(users):
        day = rng.randrange(100)
        for item in rng.sample(range(items), each):
            day += rng.randrange(1, 5)
            rating = float(rng.choice((1, 2, *([3, 4, 5] * 6))))
            found.append(Row(f"W\u00e9nda {user}", f"{7000 + item}", day, rating))
    rng.shuffle(found)
    return found


def game(item: str, **fields: Any) -> dict[str, Any]:
    return {
        "publisher": f"Pub {int(item) % 5}",
        "genres": ["Action", "Design &amp; Illustration"],
        "app_name": f"Paper Comet {item}",
        "title": f"Paper Comet {item}",
        "url": f"http://example.org/app/{item}/",
        "release_date": "2018-01-04",
        "tags": ["Strategy", "Action", "Indie"],
        "price": 4.99,
        "specs": ["Single-player"],
        "id": item,
        "developer": "Kotoshiro",
        **fields,
    }


def product(item: str, **fields: Any) -> dict[str, Any]:
    return {
        "asin": item,
        "description": f"Cream number {item}.",
        "title": f"Velvet &amp; Rose Cream {item}",
        "price": 9.5,
        "imUrl": "http://example.org/x.jpg",
        "related": {"also_bought": ["1", "2"]},
        "salesRank": {"Beauty": 7},
        "categories": [["Beauty", "Skin Care", "Face"], ["Beauty", "Skin Care", "Body"]],
        "brand": "Orchard",
        **fields,
    }


def literal_line(record: dict[str, Any]) -> str:
    """As Python 2 wrote it: ASCII, and a `u` before every string."""
    pairs = ", ".join(f"u{key!a}: {_value(value)}" for key, value in record.items())
    return "{" + pairs + "}"


def _value(value: Any) -> str:
    return f"u{value!a}" if isinstance(value, str) else ascii(value)


def steam_review(row: Row) -> dict[str, Any]:
    return {
        "username": row.user,
        "hours": 0.1,
        "products": 41,
        "product_id": row.item,
        "page_order": 0,
        "date": datetime.fromtimestamp(START + row.day * DAY, UTC).strftime("%Y-%m-%d"),
        "text": 'It isn\'t "bad" \u2764',
        "early_access": False,
        "page": 1,
    }


def amazon_review(row: Row) -> dict[str, Any]:
    return {
        "reviewerID": row.user,
        "asin": row.item,
        "reviewerName": "N.",
        "helpful": [0, 1],
        "reviewText": "Fine.",
        "overall": row.rating,
        "summary": "Fine",
        "unixReviewTime": START + row.day * DAY,
        "reviewTime": "02 1, 2014",
    }


def write_gz(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the time in its header, so that equal content is an equal file.
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return path


def write_steam(
    folder: Path,
    reviews: Sequence[Row] | None = None,
    games: Sequence[dict[str, Any]] | None = None,
) -> Path:
    reviews = rows() if reviews is None else reviews
    games = [game(item) for item in _items(reviews)] if games is None else games
    write_gz(folder / "steam_reviews.json.gz", [literal_line(steam_review(row)) for row in reviews])
    write_gz(folder / "steam_games.json.gz", [literal_line(one) for one in games])
    return folder


def write_amazon(
    folder: Path,
    reviews: Sequence[Row] | None = None,
    products: Sequence[dict[str, Any]] | None = None,
    *,
    category: str = "Beauty",
    csv: bool = False,
) -> Path:
    reviews = rows() if reviews is None else reviews
    products = [product(item) for item in _items(reviews)] if products is None else products
    folder.mkdir(parents=True, exist_ok=True)
    if csv:
        lines = [f"{r.user},{r.item},{r.rating},{START + r.day * DAY}\n" for r in reviews]
        (folder / f"ratings_{category}.csv").write_bytes("".join(lines).encode())
    else:
        lines = [json.dumps(amazon_review(row)) for row in reviews]
        write_gz(folder / f"reviews_{category}_5.json.gz", lines)
    lines = [literal_line(one) for one in products]
    write_gz(folder / f"meta_{category}.json.gz", lines)
    return folder


def _items(reviews: Sequence[Row]) -> list[str]:
    return sorted({row.item for row in reviews})
