"""Which files of a folder are source files that a cluster needs, and which are never sent."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".py", ".j2", ".yaml", ".sql")
_PUBLISHED = re.compile(r"analysis/published/[^/]+\.(csv|yaml)")
_SECRET = re.compile(
    r"\.env.*|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|env)|id_(rsa|dsa|ecdsa|ed25519).*"
    r"|\.?netrc|\.pgpass|(credentials|secrets?)(\.(json|ya?ml|toml|ini|txt))?"
    r"|service[-_]account.*\.json",
    re.IGNORECASE,
)
_NEVER_BELOW = {".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules", ".ipynb_checkpoints"}


class SourceFiles(NamedTuple):
    """Files of a folder, by their path relative to it. `untracked` are those that git lacks."""

    files: list[str]
    untracked: list[str]
    left_out: list[str]
    """Files that are never sent: keys, and links that lead out of the folder."""


def sources_of(root: Path, folders: Sequence[str]) -> SourceFiles:
    """The source files in some folders (or files) of `root`.

    With git: what it tracks, as it is on the disk, and of what it neither tracks nor ignores the
    files with a suffix of source files. Without git: those suffixes alone.
    """
    tracked = _git(root, "ls-files", "-z", "--", *folders)
    others = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *folders) or []
    if tracked or others:
        found, untracked = tracked or [], [name for name in others if _is_source(name)]
    else:  # no git, or a checkout around it that ignores these folders
        found, untracked = _walk(root, folders), []
    chosen, left_out = [], []
    for name in sorted({*found, *untracked}):
        path = root / name
        if not path.is_file():
            continue  # tracked, and deleted or a submodule
        (left_out if is_never_sent(name) or _leads_out(path, root) else chosen).append(name)
    kept = set(chosen)
    return SourceFiles(chosen, sorted(kept.intersection(untracked)), left_out)


def is_never_sent(name: str) -> bool:
    """Whether a file's name is that of a key file, or it is where no sources are."""
    parts = Path(name).parts
    return bool(_NEVER_BELOW.intersection(parts)) or _SECRET.fullmatch(parts[-1]) is not None


def revision_of(root: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout, and whether its tracked files have changed since."""
    revision = _git(root, "rev-parse", "HEAD", separator="\n")
    status = _git(root, "status", "--porcelain", "--untracked-files=no", separator="\n")
    return revision[0] if revision else None, None if status is None else bool(status)


def _is_source(name: str) -> bool:
    return name.endswith(SUFFIXES) or _PUBLISHED.fullmatch(name) is not None


def _leads_out(path: Path, root: Path) -> bool:
    return not path.resolve().is_relative_to(root.resolve())


def _walk(root: Path, folders: Iterable[str]) -> list[str]:
    return [name for folder in folders for name in _below(root, folder) if _is_source(name)]


def _below(root: Path, name: str) -> Iterator[str]:
    if (root / name).is_file():
        yield name
        return
    for folder, folders, names in os.walk(root / name):
        folders[:] = sorted(set(folders) - _NEVER_BELOW)
        for each in names:
            yield (Path(folder) / each).relative_to(root).as_posix()


def _git(root: Path, *words: str, separator: str = "\0") -> list[str] | None:
    """What git answers; None if it is not installed, or `root` is in no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [each for each in done.stdout.split(separator) if each]
