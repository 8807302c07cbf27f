"""The import format: JSON lines, one dialogue per line (docs/recordings.md)."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agents.core.errors import DataError
from simulators.core.recordings import Recordings
from simulators.domains.core.files import open_data
from simulators.recordings.core import recordings_of

__all__ = ["json_lines"]


def json_lines(path: Path) -> Recordings:
    """The dialogues of a file in the import format. Empty lines are skipped."""
    return recordings_of(_records(path))


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    with open_data(path) as file:
        empty = True
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            empty = False
            where = f"{path}:{number}"
            try:
                yield where, json.loads(line)
            except UnicodeDecodeError:
                raise DataError(f"{where}: the line is not UTF-8 text") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: the line is not JSON: {error}") from None
    if empty:
        raise DataError(f"{path}: the file holds no dialogue")
