"""Buyers of Amazon Reviews 2023: from the official reviews, or as CSI's authors published them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Item
from simulators.core.profiles import BuyerBudget
from simulators.domains.amazon_2023.data import Buyer, BuyerData
from simulators.domains.amazon_2023.products import catalogue_of, read_products
from simulators.domains.core.amazon_reviews_2023 import Bought, bought_of
from simulators.domains.core.files import Records
from simulators.domains.core.json_files import as_json, read_object
from simulators.domains.core.leave_one_out import k_core


class _Events(NamedTuple):
    """Reviews by user, then time: positions in `users` and `items`."""

    users: Sequence[str]
    items: Sequence[str]
    user: np.ndarray
    item: np.ndarray


def reviewers(
    reviews: Path,
    products: Path,
    category: str,
    max_bad_lines: float,
    *,
    k: int,
    again: Literal["users", "products", "none"],
    min_targets: int,
) -> BuyerData:
    """Steps 1 to 4 of the domain (`simulators.domains.amazon_2023`).

    Of several reviews of one product by one user the earliest counts.
    """
    records = Records(
        reviews,
        bought_of,
        expected="a JSON object with user_id, parent_asin, rating (1 to 5) and timestamp",
        allowed=max_bad_lines,
    )
    events = _core(_events(records), k)
    if not len(events.user):
        raise _nothing_left(reviews, f"k_core {k}")
    in_core = {events.items[code] for code in np.unique(events.item).tolist()}
    found, product_remarks = read_products(products, max_bad_lines, in_core)
    remarks = [*records.remarks(), *product_remarks]
    complete = np.array([item in found for item in events.items], bool)
    kept = complete[events.item]
    if not kept.all():
        remarks.append(
            f"{np.count_nonzero(~kept):,} of {len(kept):,} reviews are of products that are left "
            f"out or not in {products.name}"
        )
    events = events._replace(user=events.user[kept], item=events.item[kept])
    if again == "products":
        events = _core(events, k)
    elif again == "users" and len(events.user):
        enough = np.bincount(events.user)[events.user] >= k
        events = events._replace(user=events.user[enough], item=events.item[enough])
    if not len(events.user):
        raise _nothing_left(products, "leaving out incomplete products")
    return _split(events, found, products, category, remarks, min_targets)


def published_buyers(
    path: Path, products: Path, category: str, max_bad_lines: float, min_targets: int
) -> BuyerData:
    """The users of the authors' `interactions.json`: targets, their prices, and the history."""
    expected = "a JSON object that maps users to objects with targets, target_price and history"
    given = {user: _published(path, user, one) for user, one in read_object(path, expected).items()}
    named = {item for one in given.values() for item in (*one.targets, *one.history)}
    found, remarks = read_products(products, max_bad_lines, named)
    catalogue = catalogue_of(found, products, category)
    place = catalogue.position
    buyers: dict[str, Buyer] = {}
    for user, one in given.items():
        targets = [place[item] for item in one.targets if item in place]
        if len(targets) >= min_targets:
            history = [place[item] for item in one.history if item in place]
            buyers[user] = Buyer(history, targets, BuyerBudget(min(one.prices), max(one.prices)))
    unknown = len(named) - len(found)
    if unknown:
        remarks.append(
            f"{unknown:,} of {len(named):,} products of {path.name} are not in {products.name}, or "
            "incomplete there"
        )
    if len(buyers) < len(given):
        remarks.append(
            f"{len(given) - len(buyers):,} of {len(given):,} users of {path.name} have fewer than "
            f"{min_targets} targets left and are left out"
        )
    if not buyers:
        raise DataError(f"{path}: no target of any user is in {products.name}")
    return BuyerData(catalogue, buyers, remarks)


class _Published(NamedTuple):
    targets: Sequence[str]
    prices: Sequence[float]
    history: Sequence[str]


def _published(path: Path, user: str, one: Any) -> _Published:
    if isinstance(one, dict):
        targets, prices, history = (one.get(k) for k in ("targets", "target_price", "history"))
        if (
            _is_ids(targets)
            and targets
            and _is_ids(history)
            and history is not None
            and isinstance(prices, list)
            and len(prices) == len(targets)
            and all(_is_price(price) for price in prices)
        ):
            return _Published(targets, [float(price) for price in prices], history)
    raise DataError(
        f"{path}: user {user}: found {as_json(one)}, expected targets (ids), target_price (as many "
        "numbers) and history (ids)"
    )


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _events(records: Records[Bought]) -> _Events:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user, item, time = array("i"), array("i"), array("q")
    for bought in records:
        user.append(users.setdefault(bought.user, len(users)))
        item.append(items.setdefault(bought.item, len(items)))
        time.append(bought.time)
    all_users, all_items = np.array(user, np.int32), np.array(item, np.int32)
    # Stable: ties in time stay in the order of the lines.
    order = np.lexsort((np.array(time, np.int64), all_users))
    pairs = all_users[order].astype(np.int64) * max(1, len(items)) + all_items[order]
    order = order[np.sort(np.unique(pairs, return_index=True)[1])]
    return _Events(list(users), list(items), all_users[order], all_items[order])


def _core(events: _Events, k: int) -> _Events:
    if k <= 1 or not len(events.user):
        return events
    kept = k_core(events.user, events.item, k)
    return events._replace(user=events.user[kept], item=events.item[kept])


def _split(
    events: _Events,
    found: Mapping[str, Item],
    products: Path,
    category: str,
    remarks: list[str],
    min_targets: int,
) -> BuyerData:
    """Steps 3 and 4: targets, history and budget of each user."""
    used = {events.items[code] for code in np.unique(events.item).tolist()}
    items = {number: item for number, item in found.items() if number in used}
    catalogue = catalogue_of(items, products, category)
    code_of = {number: code for code, number in enumerate(events.items)}
    place = np.full(len(events.items), -1, np.int32)
    for number, position in catalogue.position.items():
        place[code_of[number]] = position
    positions = place[events.item]
    kept_users, starts = np.unique(events.user, return_index=True)
    ends = np.append(starts[1:], len(events.user))
    buyers: dict[str, Buyer] = {}
    bounds = zip(kept_users.tolist(), starts.tolist(), ends.tolist(), strict=True)
    for user, start, end in bounds:
        bought = positions[start:end].tolist()
        path = catalogue.items[bought[-1]].attributes["category"]
        alike = [catalogue.items[p].attributes["category"] == path for p in bought]
        targets = [p for p, is_target in zip(bought, alike, strict=True) if is_target]
        history = [p for p, is_target in zip(bought, alike, strict=True) if not is_target]
        if len(targets) >= min_targets:
            prices = [catalogue.items[p].price or 0.0 for p in targets]
            name = str(events.users[user])
            buyers[name] = Buyer(history, targets, BuyerBudget(min(prices), max(prices)))
    if len(buyers) < len(kept_users):
        remarks.append(
            f"{len(kept_users) - len(buyers):,} of {len(kept_users):,} users have fewer than "
            f"{min_targets} targets and are left out"
        )
    if not buyers:
        raise _nothing_left(products, f"min_targets {min_targets}")
    return BuyerData(catalogue, buyers, remarks)


def _nothing_left(path: Path, after: str) -> DataError:
    return DataError(f"{path}: no user is left after {after}; lower it")
