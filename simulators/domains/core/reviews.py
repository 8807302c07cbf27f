"""Domains made of product reviews."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from agents.core.items import LONGEST_TITLE, Catalogue, Item
from agents.core.plugins import operational
from simulators.domains.core.fields import cut
from simulators.domains.core.files import Records
from simulators.domains.core.leave_one_out import (
    Events,
    first_of_title,
    leave_one_out,
)
from simulators.domains.core.recorded import LoadedData, RecordedOptions


class ReviewOptions(RecordedOptions):
    """Options of domains whose files have one line per review and per product."""

    max_bad_lines: float = operational(0.01, ge=0, le=1)
    """A file with a larger share of malformed lines is refused; otherwise they are left out and
    reported."""


class Review(NamedTuple):
    user: str
    item: str
    time: int
    liked: bool = True


def each_once(parse: Callable[[bytes], Item | None]) -> Callable[[bytes], Item | None]:
    """`parse`, which then gives None for an id that it has given already."""
    seen: set[str] = set()

    def parse_new(line: bytes) -> Item | None:
        item = parse(line)
        if item is None or item.id in seen:
            return None
        seen.add(item.id)
        return item

    return parse_new


def load_reviews(
    reviews: Records[Review], products: Records[Item], k: int, filters: str, noun: str
) -> LoadedData:
    """Reviews that were liked, of products with a title, after merging equal titles and k-core."""
    users: dict[str, int] = {}
    ids: dict[str, int] = {}
    user, item, time = array("i"), array("i"), array("q")
    found = 0
    with warnings.catch_warnings():
        # Python warns of an odd backslash in a literal, here a review.
        warnings.simplefilter("ignore")
        for review in reviews:
            found += 1
            if review.liked:
                user.append(users.setdefault(review.user, len(users)))
                item.append(ids.setdefault(review.item, len(ids)))
                time.append(review.time)
        titled = {ids[one.id]: one for one in products if one.id in ids and one.title}
    long = [code for code, one in titled.items() if len(one.title) > LONGEST_TITLE]
    for code in long:
        titled[code] = replace(titled[code], title=cut(titled[code].title, LONGEST_TITLE))
    # In the order of the reviews, so that the first of equal titles is the one reviewed first.
    codes = sorted(titled)
    place = np.full(len(ids), -1, dtype=np.int32)
    place[codes] = first_of_title([titled[code].title for code in codes])
    items = place[np.array(item, dtype=np.int32)]
    known = items >= 0
    events = Events(
        list(users),
        np.array(user, dtype=np.int32)[known],
        items[known],
        np.array(time, dtype=np.int64)[known],
    )
    kept, histories = leave_one_out(reviews.path, events, k, filters, found)
    remarks = [*reviews.remarks(), *products.remarks()]
    if not known.all():
        remarks.append(
            f"{np.count_nonzero(~known):,} reviews of {len(ids) - len(codes):,} products that "
            f"{products.path.name} does not list with a title are left out"
        )
    if long:
        remarks.append(
            f"{len(long):,} titles of {products.path.name} are longer than {LONGEST_TITLE} "
            "characters and cut there, so that replies can name them"
        )
    catalogue = Catalogue([titled[codes[position]] for position in kept.tolist()], noun=noun)
    return LoadedData(catalogue, histories, remarks)
