"""Names that ids, records and the schema have room for, and that no sweep file may use yet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

ROLES = ("agent", "user", "critic", "judge")
"""What the first part of a role's name may be, reserved ones included."""

# Dotted path in a sweep file -> why it is refused. Delete an entry once the feature exists.
_RESERVED = {
    r"critics?|roles\.critic(\..+)?": (
        "critics are not supported yet; the roles are agent, user and judge"
    ),
}


def reserved(path: Sequence[Any]) -> str | None:
    """Why a sweep file may not use `path`; None if it may."""
    dotted = ".".join(map(str, path))
    return next((why for name, why in _RESERVED.items() if re.fullmatch(name, dotted)), None)


def usable(names: Sequence[str], at: Sequence[Any] = ()) -> list[str]:
    """Those of `names`, all keys of the mapping at `at`, that a sweep file may use."""
    return [name for name in names if reserved([*at, name]) is None]
