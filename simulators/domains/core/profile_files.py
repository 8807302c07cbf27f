"""Reads profiles of buyers from a file: our own layout, and that of CSI's authors.

Our own is JSON lines, one profile per line, with `user` and the fields of `BuyerProfile`. The
authors' is a JSON list of objects whose `user_data` has `general_preference`, `target_needs`,
`purchase_reason`, `target_category`, `budget`, `decision_making_style` and `dialogue_openness`. It
names no users: they are numbered from 1. Either layout may be a JSON object by user as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from agents.core.errors import DataError, near
from agents.core.text import repaired
from simulators.core.profiles import OPENNESS, STYLES, BuyerBudget, BuyerProfile, Openness, Style
from simulators.domains.core.files import read_content, short
from simulators.domains.core.json_files import as_json

# Our field -> that of the authors.
_NAMES = {
    "general_preference": "general_preference",
    "target_needs": "target_needs",
    "purchase_reasons": "purchase_reason",
    "category_path": "target_category",
    "budget": "budget",
    "style": "decision_making_style",
    "openness": "dialogue_openness",
}
_OPENNESS_OF = {"less active": "Neutral"}  # Table 11 has "Less Active", Tables 2 and 5 "Neutral"


def read_profiles(path: Path) -> dict[str, BuyerProfile]:
    """User -> profile, in the order of the file. DataError that names the profile and its field."""
    found: dict[str, BuyerProfile] = {}
    for user, where, given in _records(path):
        if user in found:
            raise DataError(f"{where}: the user {short(user)} is listed twice")
        found[user] = profile_of(given, where)
    if not found:
        raise DataError(f"{path}: found no profile")
    return found


def profile_of(given: Mapping[str, Any], where: str) -> BuyerProfile:
    """The profile that an object in either layout is; `where` names it in messages."""
    ours = "category_path" in given or "purchase_reasons" in given
    keys = {field: field if ours else theirs for field, theirs in _NAMES.items()}
    for key in keys.values():
        if key not in given:
            raise DataError(
                f"{where}: found no {key!r}{near(key, list(given))}; expected the fields "
                f"{', '.join(keys.values())}"
            )
    values = {field: given[key] for field, key in keys.items()}
    return BuyerProfile(
        _text(values["general_preference"], keys["general_preference"], where),
        _text(values["target_needs"], keys["target_needs"], where),
        _texts(values["purchase_reasons"], keys["purchase_reasons"], where),
        _texts(values["category_path"], keys["category_path"], where),
        _budget(values["budget"], where),
        cast(Style, _one_of(values["style"], STYLES, keys["style"], where)),
        cast(Openness, _one_of(values["openness"], OPENNESS, keys["openness"], where)),
    )


def as_record(user: str, profile: BuyerProfile) -> dict[str, Any]:
    """The line of our own layout, of JSON types."""
    fields = {field: getattr(profile, field) for field in _NAMES}
    lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
    return {"user": user, **fields, **lists}


def _records(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The user, the place for messages, and the fields of each profile."""
    content = read_content(path)
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        if content.lstrip().startswith(b"["):
            raise DataError(f"{path}: found no valid JSON ({short(str(error))})") from None
        yield from _lines(path, content)
        return
    if isinstance(whole, dict) and "user" in whole:  # one line is a whole file, too
        whole = {str(whole["user"]): whole}
    if not isinstance(whole, dict | list):
        raise DataError(f"{path}: found {as_json(whole)}, expected profiles")
    named = whole.items() if isinstance(whole, dict) else enumerate(whole, start=1)
    for user, one in named:
        where = f"{path}: profile {user}"
        yield str(user), where, _object(one, where)


def _lines(path: Path, content: bytes) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            fields = _object(json.loads(line), where)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: found no valid JSON ({short(str(error))})") from None
        user = fields.get("user")
        if not isinstance(user, str) or not user.strip():
            raise DataError(f"{where}: found no 'user', expected the name of the user")
        yield user, where, fields


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("user_data"), dict):
        value = value["user_data"]
    if not isinstance(value, dict):
        raise DataError(f"{where}: found {as_json(value)}, expected an object with a profile")
    return value


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key}: found {as_json(value)}, expected a text")
    return " ".join(repaired(value).split())


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {key}: found {as_json(value)}, expected a list of strings")
    return tuple(_text(each, key, where) for each in value)


def _budget(value: Any, where: str) -> BuyerBudget:
    numbers = isinstance(value, list) and len(value) == 2
    if numbers:
        numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
    if not numbers or not 0 <= value[0] <= value[1] < 1e9:
        raise DataError(
            f"{where}: budget: found {as_json(value)}, expected the lowest and the highest price"
        )
    return BuyerBudget(float(value[0]), float(value[1]))


def _one_of(value: Any, known: tuple[str, ...], key: str, where: str) -> str:
    folded = " ".join(value.split()).lower() if isinstance(value, str) else ""
    folded = _OPENNESS_OF.get(folded, folded).lower() if known is OPENNESS else folded
    for name in known:
        if name.lower() == folded:
            return name
    raise DataError(
        f"{where}: {key}: found {as_json(value)}, expected one of {', '.join(known)}"
        f"{near(str(value), known)}"
    )
