"""Vectors from a file, such as those that another project has trained.

An `.npz` file of numpy with six arrays: `users`, `items` and `facts` of one width (n, d), and as
many strings in `user_ids`, `item_ids` and `fact_names`, where a fact is named `attribute: value`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from agents.core.errors import DataError
from agents.core.items import Catalogue
from agents.core.text import quoted
from agents.multi_round.space import AttributeSpace

_NAMES = {"users": "user_ids", "items": "item_ids", "facts": "fact_names"}


def read_vectors(
    path: Path, sha256: str, user_ids: Sequence[str], catalogue: Catalogue
) -> dict[str, np.ndarray]:
    """The tables in the order of `user_ids` and of the catalogue, float32.

    DataError if the file does not have the digest `sha256`, or lacks a user, an item or a fact.
    Anything else in it is ignored.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise DataError(f"{path}: found a file with the SHA-256 {found}, expected {sha256}")
            file.seek(0)
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
                tables = {name: np.asarray(arrays[name]) for name in _NAMES}
                texts = {name: np.asarray(arrays[of]) for name, of in _NAMES.items()}
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]}; expected {', '.join(_expected())}") from None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is not an .npz file without pickled objects: {error}") from None
    names = {name: _names(path, _NAMES[name], array) for name, array in texts.items()}
    for name, table in tables.items():
        _check(path, name, table, (len(names[name]), *tables["items"].shape[-1:]))
    wanted = {
        "users": user_ids,
        "items": [item.id for item in catalogue.items],
        "facts": [f"{f.attribute}: {f.value}" for f in AttributeSpace.of(catalogue).facts],
    }
    for name, every in wanted.items():
        tables[name] = tables[name][_places(path, name, names[name], every)]
    return {name: table.astype(np.float32) for name, table in tables.items()}


def _expected() -> list[str]:
    return [*_NAMES, *_NAMES.values()]


def _names(path: Path, of: str, texts: np.ndarray) -> list[str]:
    if texts.ndim != 1 or texts.dtype.kind != "U" or len(np.unique(texts)) != len(texts):
        raise DataError(f"{path}: {of} must be strings without duplicates")
    return texts.tolist()


def _check(path: Path, name: str, table: np.ndarray, shape: tuple[int, ...]) -> None:
    if table.shape != shape or table.dtype.kind != "f":
        raise DataError(
            f"{path}: {name} has the shape {table.shape} and the type {table.dtype}, expected "
            f"floats of the shape {shape}: a row for each of {_NAMES[name]}, and one width"
        )
    if not np.isfinite(table).all():
        raise DataError(f"{path}: {name} contains values that are not finite")


def _places(path: Path, name: str, names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    place = {text: row for row, text in enumerate(names)}
    lacking = [text for text in wanted if text not in place]
    if lacking:
        raise DataError(
            f"{path}: {len(lacking):,} of {len(wanted):,} {name} have no vector, "
            f"the first is {quoted(lacking[0])}"
        )
    return [place[text] for text in wanted]
