"""Files of vectors that other programs have made: `.npz` files of numpy, identified by a digest.

A table of floats (n, d) has the name of what its rows are, and an array of n strings names the
rows. All tables of a file have one width d. Files with pickled objects are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple
from zipfile import BadZipFile

import numpy as np
from pydantic import Field

from agents.core.errors import DataError
from agents.core.paths import FilePath
from agents.core.plugins import Options, operational
from agents.core.text import quoted

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""The digest of a file, as `sha256sum FILE` prints it."""

ITEMS, ITEM_IDS = "items", "item_ids"
"""The table of items, and the array of their ids."""


class VectorFile(Options):
    """A file of vectors as an option."""

    path: FilePath = operational(...)
    sha256: Sha256
    """The digest of the file, which identifies it (`sha256sum FILE`)."""


class NamedRows(NamedTuple):
    """The rows that are wanted of a table."""

    array: str
    """The array of the file with the names of the table's rows."""
    names: Sequence[str]


def read_tables(file: VectorFile, wanted: Mapping[str, NamedRows]) -> dict[str, np.ndarray]:
    """The tables of `wanted`: each (names, d), float32, in the order of its names.

    `items` must be among them. Everything else in the file is ignored. DataError if the file does
    not have its digest, lacks a table or a row, or has anything but finite floats and
    strings in them.
    """
    path, arrays = file.path, [rows.array for rows in wanted.values()]
    found = _read(path, file.sha256, [*wanted, *arrays])
    names = {table: _names(path, rows.array, found[rows.array]) for table, rows in wanted.items()}
    width = found[ITEMS].shape[-1:]
    tables = {}
    for table, rows in wanted.items():
        vectors = _vectors(path, table, rows.array, found[table], (len(names[table]), *width))
        tables[table] = vectors[_places(path, table, names[table], rows.names)]
    return tables


def _read(path: Path, sha256: str, expected: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise DataError(f"{path}: found a file with the SHA-256 {found}, expected {sha256}")
            file.seek(0)
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name]) for name in expected}
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]}; expected {', '.join(expected)}") from None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is not an .npz file without pickled objects: {error}") from None


def _names(path: Path, array: str, texts: np.ndarray) -> list[str]:
    if texts.ndim != 1 or texts.dtype.kind != "U" or len(np.unique(texts)) != len(texts):
        raise DataError(f"{path}: {array} must be strings without duplicates")
    return texts.tolist()


def _vectors(
    path: Path, table: str, array: str, vectors: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    if vectors.shape != shape or vectors.dtype.kind != "f":
        raise DataError(
            f"{path}: {table} has the shape {vectors.shape} and the type {vectors.dtype}, expected "
            f"floats of the shape {shape}: a row for each of {array}, and one width"
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: {table} contains values that are not finite in float32")
    return vectors


def _places(path: Path, table: str, names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    place = {text: row for row, text in enumerate(names)}
    lacking = [text for text in wanted if text not in place]
    if lacking:
        raise DataError(
            f"{path}: {len(lacking):,} of {len(wanted):,} {table} have no vector, "
            f"the first is {quoted(lacking[0])}"
        )
    return [place[text] for text in wanted]
