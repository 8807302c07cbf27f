"""The files of this repository, without what was built, downloaded or run in its folder."""

import os
from pathlib import Path

from tests.conftest import ROOT

NOT_OURS = {"build", "dist", "logs", "models", "node_modules", "results", "shared"}


def own_files(suffixes: tuple[str, ...]) -> list[Path]:
    """All files whose name ends with one of `suffixes`, in order."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not (Path(folder) == ROOT and name in NOT_OURS)
        ]
        found += [Path(folder) / name for name in names if name.endswith(suffixes)]
    return sorted(found)
