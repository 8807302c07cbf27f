"""Paths as people write them: `~` and `~name` at the beginning are home folders.

Variables such as `$HOME` are left as they are; a sweep file has `${oc.env:HOME}` for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from agents.core.errors import UsageError

PathLike = TypeVar("PathLike", str, Path)


def expand_user(path: PathLike) -> PathLike:
    """`path` with the home folder in the place of a leading `~`; a URI is left as it is.

    UsageError for `~name` where there is no such user, and for a character that no path can hold.
    """
    text = str(path)
    if "\0" in text:
        raise UsageError(f"no path holds the character U+0000, found {text!r}")
    if not text.startswith("~"):
        return path
    try:
        return type(path)(Path(text).expanduser())
    except RuntimeError:
        name = text.partition("/")[0]
        way = "set HOME" if name == "~" else f"write ./{name} for a folder of that name"
        raise UsageError(f"there is no home folder {name}; {way}") from None


def expand_users_in(value: Any) -> Any:
    """`value` with every text that begins with `~/` expanded, in mappings and lists too."""
    if isinstance(value, dict):
        return {key: expand_users_in(part) for key, part in value.items()}
    if isinstance(value, list):
        return [expand_users_in(part) for part in value]
    return expand_user(value) if isinstance(value, str) and value.startswith("~/") else value


def _for_pydantic(path: PathLike) -> PathLike:
    try:
        return expand_user(path)
    except UsageError as error:
        raise ValueError(error.message) from None


PathText = Annotated[str, AfterValidator(_for_pydantic)]
"""An option that is a path, or may be one."""
FilePath = Annotated[Path, AfterValidator(_for_pydantic)]
