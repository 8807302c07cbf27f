"""The environment variables of a sweep: those that `${oc.env:NAME}` reads, and `run.env_from`.

The variables of `run.env_from`, and the file that may define them, are needed before the rest of a
sweep file can be read, because `${oc.env:NAME}` may refer to them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agents.core.errors import near
from agents.core.paths import expand_user
from sweeps.origins import Origins

# A backslash keeps what follows as text; two of them are one.
OPEN = r"(?<!\\)(?:\\\\)*\$\{"
ENV = re.compile(OPEN + r"\s*oc\.env\s*:\s*([^,}\s]+)\s*(,[^}]*)?\}")
_ENV_OPENS = re.compile(OPEN + r"(?=\s*oc\.env\s*:)")


def take_variables(run: Any, origins: Origins) -> None:
    """Sets the variables of `run.env_from` that are missing in the environment from `run.env_file`.

    `run` is that part of the sweep file as written, not yet checked. Raises UsageError naming a
    variable that neither has, but never a value.
    """
    if not isinstance(run, dict):
        return
    names, file = run.get("env_from"), run.get("env_file")
    if not isinstance(names, list):
        return  # absent, or refused later when the file is checked
    missing = [name for name in names if isinstance(name, str) and not os.environ.get(name)]
    if not missing:
        return
    found: dict[str, str] = {}
    if isinstance(file, str):
        try:
            found = _read(Path(expand_user(file)), missing)
        except OSError as error:
            raise origins.refuse(
                ("run", "env_file"), f"{file} cannot be read: {error.strerror or error}"
            ) from None
        except UnicodeDecodeError:
            raise origins.refuse(("run", "env_file"), f"{file} is not UTF-8 text") from None
    for name in missing:
        if not found.get(name):
            also = f", and not in {file}" if isinstance(file, str) else ""
            known = [*found, *(key for key in os.environ if key.isupper())]
            raise origins.refuse(
                ("run", "env_from"),
                f"the environment variable {name} is not set here{also}{near(name, known)}",
            )
        os.environ[name] = found[name]


def variables_read(values: Iterable[Any]) -> dict[str, bool]:
    """Names of the variables in values of a sweep file -> whether they must be set.

    One may be missing if it has a default wherever it is read, or is itself part of a default.
    """
    found: dict[str, bool] = {}
    for text in values:
        for name, default in ENV.findall(text) if isinstance(text, str) else ():
            found[name] = found.get(name, False) or not default
            for other, _ in ENV.findall(f"{default}}}"):  # `${oc.env:A,${oc.env:B,x}}`
                found.setdefault(other, False)
    return found


def _read(place: Path, names: list[str]) -> dict[str, str]:
    """Name -> value, from a file of `NAME=value` lines or a folder with one file per name."""
    if place.is_dir():
        return {name: _line(place / name) for name in names if (place / name).is_file()}
    found = {}
    for line in place.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = _unquoted(value.strip())
    return found


def _line(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def unset_as_text(text: str) -> str:
    """`text` with `${oc.env:NAME}` escaped if NAME is not set here."""

    def kept(found: re.Match[str]) -> str:
        is_set = found[2] or found[1] in os.environ
        return found[0] if is_set else found[0].replace("${", "\\${", 1)

    return ENV.sub(kept, text)


def env_as_text(text: str) -> str:
    """`text` with every `${oc.env:...}` escaped, also within the default of another."""
    return _ENV_OPENS.sub(lambda found: found[0].replace("${", "\\${"), text)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every string in it changed; keys stay."""
    if isinstance(value, dict):
        return {key: with_texts(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [with_texts(part, change) for part in value]
    return change(value) if isinstance(value, str) else value
