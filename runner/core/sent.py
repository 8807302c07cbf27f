"""The description of a package that `crsweep submit` sent to a cluster.

The file is in the root of the package, next to the six packages; a checkout has none. This module
may import only what is imported before anything else, because the check of a package comes first.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = "crsweep-package.json"
ROOT = Path(__file__).resolve().parent.parent.parent


class SentPackage(NamedTuple):
    """A package: `files` maps each file to the SHA-256 of its content."""

    files: dict[str, str]
    revision: str | None
    """The commit of the checkout that it was made from."""
    dirty: bool | None
    command: str
    """The command that sent it."""

    @property
    def digest(self) -> str:
        """The digest of all its files and their names."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    def content(self) -> bytes:
        """The content of the description file."""
        return json.dumps({**self._asdict(), "digest": self.digest}, indent=1).encode()


@cache
def sent_package(root: Path = ROOT) -> SentPackage | None:
    """The package that this crsweep runs from; None in a checkout."""
    try:
        found: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return SentPackage(found["files"], found["revision"], found["dirty"], found["command"])


def altered(root: Path = ROOT) -> str | None:
    """A message if a sent package is incomplete or was changed."""
    try:
        package = sent_package(root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{root / FILE} cannot be read ({error}); submit the sweep again"
    if package is None:
        return None
    for name, digest in package.files.items():
        try:
            content = (root / name).read_bytes()
        except OSError as error:
            return f"the package in {root} is incomplete: {name}: {error.strerror or error}"
        if hashlib.sha256(content).hexdigest() != digest:
            return f"the package in {root} was changed after it was sent: {name} differs"
    return None
