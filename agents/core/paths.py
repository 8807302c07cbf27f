"""Paths as people write them: a leading `~` or `~name` is a home folder.

Variables such as `$HOME` are not expanded; sweep files have `${oc.env:HOME}` for them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from agents.core.errors import UsageError

_CONTROL = re.compile(r"[\x01-\x1f\x7f-\x9f]")
_LONGEST_NAME = 255  # of common file systems
PathLike = TypeVar("PathLike", str, Path)


def expand_user(path: PathLike) -> PathLike:
    """`path` with a leading `~` replaced by the home folder; a URI is returned unchanged.

    Raises UsageError for `~name` if there is no such user, and for a character that paths cannot
    contain.
    """
    text = str(path)
    if "\0" in text:
        raise UsageError("no path holds the character U+0000")
    if not text.startswith("~"):
        return path
    try:
        return type(path)(Path(text).expanduser())
    except RuntimeError:
        name = text.partition("/")[0]
        way = "set HOME" if name == "~" else f"write ./{name} for a folder of that name"
        raise UsageError(f"there is no home folder {name}; {way}") from None


def expand_users_in(value: Any) -> Any:
    """`value` with every text that begins with `~/` expanded, including in mappings and lists."""
    if isinstance(value, dict):
        return {key: expand_users_in(part) for key, part in value.items()}
    if isinstance(value, list):
        return [expand_users_in(part) for part in value]
    return expand_user(value) if isinstance(value, str) and value.startswith("~/") else value


def _for_pydantic(path: PathLike) -> PathLike:
    text = str(path)
    if _CONTROL.search(text):
        raise ValueError("a path with line breaks or other control characters is not supported")
    longest = max((len(os.fsencode(name)) for name in text.split("/")), default=0)
    if longest > _LONGEST_NAME:
        raise ValueError(f"a name in a path has at most {_LONGEST_NAME} bytes, here {longest:,}")
    try:
        return expand_user(path)
    except UsageError as error:
        raise ValueError(error.message) from None


PathText = Annotated[str, Field(min_length=1), AfterValidator(_for_pydantic)]
"""An option that is a path, or may be one."""
FilePath = Annotated[Path, AfterValidator(_for_pydantic)]
