"""Reads JSON objects: whole files, with errors that name the place, and lines."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.core.errors import DataError
from simulators.domains.core.files import read_content, short

KeyValues = list[tuple[str, Any]]

_LARGEST = 2**31 - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


class _ListedTwice(ValueError):
    pass


def each_key_once(pairs: KeyValues) -> dict[str, Any]:
    """The object that `pairs` are; ValueError if a key occurs twice, which `json` would hide."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _ListedTwice(f"the key {short(double)} is listed twice")
    return found


def read_object(
    path: Path, expected: str, make: Callable[[KeyValues], Any] = each_key_once
) -> dict[str, Any]:
    """The JSON object that the file is.

    `make` turns the keys and values of each object in it into what is kept, as soon as it has been
    read, so that a large file of small objects never exists as Python objects as a whole.
    `expected` describes the file in messages. DataError if it is missing, no JSON, no object, or
    lists a key twice.
    """
    content = read_content(path)
    try:
        found = json.loads(content, object_pairs_hook=make)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: found no valid JSON here ({error.msg}), expected {expected}; "
            "download the file again"
        ) from None
    except _ListedTwice as error:
        raise DataError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({short(str(error))})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: found {as_json(found)}, expected {expected}")
    return found


def object_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line of a file is, or None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def as_json(value: Any) -> str:
    """A JSON value in a message, cut."""
    return short(json.dumps(value, ensure_ascii=False, default=repr))


def number_of(path: Path, key: str, what: str) -> int:
    """A key that is a number; `what` says of what."""
    if not _NUMBER.fullmatch(key):
        raise DataError(f"{path}: found the key {short(key)}, expected the number of {what}")
    return int(key)


def numbers_in(listed: Any) -> Sequence[int] | None:
    """`listed` if it is a list of numbers that are 0 or more, else None."""
    if not isinstance(listed, list) or set(map(type, listed)) - {int}:  # not isinstance: true is 1
        return None
    return listed if not listed or (min(listed) >= 0 and max(listed) <= _LARGEST) else None


class UserItems(NamedTuple):
    """Interactions in the order of their file: the numbers of users and items, one entry each."""

    users: np.ndarray
    items: np.ndarray


def read_user_items(path: Path) -> UserItems:
    """A file that maps the number of each user to a list of item numbers."""
    expected = "a JSON object that maps users to lists of item numbers"
    users, items = array("i"), array("i")
    for key, listed in read_object(path, expected).items():
        user, numbers = number_of(path, key, "a user"), numbers_in(listed)
        if numbers is None:
            raise DataError(
                f"{path}: user {user}: found {as_json(listed)}, expected a list of item numbers"
            )
        users.extend(repeat(user, len(numbers)))
        items.extend(numbers)
    return UserItems(np.array(users, dtype=np.int32), np.array(items, dtype=np.int32))
