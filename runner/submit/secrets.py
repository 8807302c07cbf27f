"""Secrets never leave this machine with a sweep: they are looked for in everything that is sent.

A package is kept by the cluster, and its dashboard shows what a job was started with. So values of
variables that hold secrets, and settings that look like one, are refused before anything is sent.
`run.env_from` names variables that the cluster has itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.core.errors import UsageError
from sweeps.load import LoadedSweep

_SHORTEST = 8
"""Characters of a value that is looked for: a shorter one is found in words that are not secret."""
_VARIABLE = re.compile(
    r"(^|_)(KEY|KEY_ID|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE
)
_SETTING = re.compile(
    r"(^|[_-])(api[_-]?key|(access|auth|api|hf|bearer|session)[_-]?token|secret([_-]?key)?"
    r"|password|passwd|passphrase|authorization|credentials?)$",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/\s@]*@")
_WAY = (
    "set it as an environment variable on the nodes, name it in run.env_from, and write "
    "${oc.env:NAME} (in single quotes on the command line)"
)


def check_overrides(overrides: Sequence[str], names: Sequence[str] = ()) -> None:
    """UsageError for an override that holds a secret: the dashboard shows them. No message repeats
    it. `names` are further variables whose values are secret."""
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals:
            continue
        problem = _problem(path.rpartition(".")[2], value)
        for name, secret in _secrets_here(names):
            if secret in value:
                problem = f"the value of the environment variable {name} must not be sent"
        if problem is not None:
            raise UsageError(f"override {path}: {problem}; {_WAY}")


def check_sweep(loaded: LoadedSweep) -> None:
    """UsageError for a setting of a sweep that looks like a secret."""
    for keys, value in _leaves(loaded.recorded):
        problem = _problem(str(keys[-1]) if keys else "", value)
        if problem is not None:
            raise UsageError(f"{loaded.path}: {'.'.join(map(str, keys))}: {problem}; {_WAY}")


def check_contents(content: Mapping[str, bytes], names: Sequence[str]) -> None:
    """UsageError for a file that holds the value of a variable that is secret here."""
    secrets = [(name, secret.encode()) for name, secret in _secrets_here(names)]
    for path, found in content.items():
        for name, secret in secrets:
            if secret in found:
                raise UsageError(
                    f"{path} holds the value of the environment variable {name}, which must not be "
                    f"sent; {_WAY}"
                )


def _problem(key: str, value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip() or "${" in value:
        return None
    if _LOGIN.search(value):
        return "an address with a user name or a password must not be sent to a cluster"
    if _SETTING.search(key):
        return "this looks like a secret, which must not be sent to a cluster"
    return None


def _secrets_here(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if (name in names or _VARIABLE.search(name)) and len(value.strip()) >= _SHORTEST:
            yield name, value.strip()


def _leaves(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, (*keys, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, (*keys, index))
    else:
        yield keys, value
