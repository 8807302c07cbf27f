"""The code of crsweep and its digest, which must be the same in all processes of a sweep; and the
versions of libraries.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("agents", "simulators", "sweeps", "workers", "analysis", "runner")
ROOT = Path(__file__).resolve().parent.parent.parent
"""The folder with the six packages: a checkout, or the package that was sent to a cluster."""

_SUFFIXES = (".py", ".j2", ".sql")


@cache
def code_digest(root: Path = ROOT) -> str:
    """A digest of the code and prompts below `root`, the same for a checkout and its package.

    Sweep files and published numbers are left out, because they change no episode by themselves.
    """
    found = hashlib.blake2b(digest_size=16)
    for name, path in sorted(_files(root)):
        content = path.read_bytes()
        found.update(f"{name}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()


def library_versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of those packages."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for folder, folders, names in os.walk(root / package):
            folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
            for name in names:
                if name.endswith(_SUFFIXES) and not name.startswith("."):
                    path = Path(folder) / name
                    yield path.relative_to(root).as_posix(), path
