"""Plug-in lookup: a module's name is its YAML name, and it exports exactly one object.

- `agents.zero_shot` is the agent `zero_shot`; there is no registry, and importing has no side
  effects.
- A module's export is listed in its `__all__`, which must contain exactly one name.
- A dotted name (`my_lab.agents.planner`) loads a plug-in from outside.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as _Field

from agents.core.errors import UsageError, described, near

# Packages in the folders of plug-ins that are not plug-ins themselves.
_NOT_PLUGINS = frozenset({"core", "multi_round", "policies", "recommenders", "tools", "training"})


class Options(BaseModel):
    """Base class of every plug-in's options: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, data: Any) -> Any:
        return refuse_booleans(cls, data)

    def identity(self) -> dict[str, Any]:
        """The options that can change an outcome and differ from their default.

        Defaults are left out, so that a new option with a default reruns nothing.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude=self._operational())

    def _operational(self) -> dict[str, Any]:
        """The operational fields, also those of options within these, as pydantic excludes them."""
        found: dict[str, Any] = {}
        for name, info in type(self).model_fields.items():
            extra, value = info.json_schema_extra, getattr(self, name)
            if isinstance(extra, dict) and extra.get("operational"):
                found[name] = True
            elif isinstance(value, Options) and (inner := value._operational()):
                found[name] = inner
        return found


SomeOptions = TypeVar("SomeOptions", bound=Options)


def operational(default: Any, **kwargs: Any) -> Any:
    """A field that cannot change an outcome (a path, a time limit), and so is not part of the
    identity."""
    return _Field(default, json_schema_extra={"operational": True}, **kwargs)


def names(package: str) -> list[str]:
    """Names of all plug-ins in `package`, sorted."""
    paths = importlib.import_module(package).__path__
    return sorted(
        info.name
        for info in pkgutil.iter_modules(paths)
        if info.name not in _NOT_PLUGINS and not info.name.startswith("_")
    )


def module(package: str, name: str, kind: str) -> ModuleType:
    """The module of plug-in `name`. Raises UsageError with a near match if there is none."""
    outside = "." in name
    if outside and not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"no {kind} can be called {name!r}; expected a name, or a module such as my_lab.planner"
        )
    if not outside and name not in names(package):
        known = names(package)
        raise UsageError(
            f"no {kind} is called {name!r}{near(name, known)} (known: {', '.join(known)})"
        )
    path = name if outside else f"{package}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # Distinguishes a plug-in that is missing from one that fails to import something else.
        if error.name and (path == error.name or path.startswith(error.name + ".")):
            raise UsageError(
                f"no {kind} module {path!r} can be imported{_what_is_missing(error.name)}"
            ) from None
        raise UsageError(
            f"the {kind} {name!r} needs the package {error.name!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
        # Code from outside, run for the first time: it may raise anything.
        raise UsageError(f"the {kind} {name!r} cannot be imported: {described(error)}") from error


def _what_is_missing(name: str) -> str:
    """Which part of a dotted name Python does not find: its package, or a module in it."""
    above = name.rpartition(".")[0]
    if not above:
        return (
            f": there is no package {name!r} on Python's path; start crsweep in the folder that "
            "holds it, or add that folder to PYTHONPATH"
        )
    paths = getattr(importlib.import_module(above), "__path__", ())
    return near(name, [f"{above}.{info.name}" for info in pkgutil.iter_modules(paths)])


@cache
def load(package: str, name: str, kind: str) -> Any:
    """The only public class or function of plug-in `name` in `package`.

    `kind` is the word for messages ("agent", "domain", "metric").
    """
    found = module(package, name, kind)
    exported = getattr(found, "__all__", None)
    if not isinstance(exported, list | tuple) or len(exported) != 1:
        names = f"{len(exported)} names" if isinstance(exported, list | tuple) else repr(exported)
        raise UsageError(f"{found.__name__} must export exactly one name in __all__, found {names}")
    if not hasattr(found, exported[0]):
        raise UsageError(f"{found.__name__} exports {exported[0]!r}, which it does not define")
    return getattr(found, exported[0])


def refuse_booleans(cls: type[BaseModel], data: Any) -> Any:
    """Refuses booleans in fields of other types: pydantic would read them as 1 and 0."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            field = cls.model_fields.get(name)
            if (
                isinstance(value, bool)
                and field is not None
                and not _takes_boolean(field.annotation)
            ):
                raise ValueError(
                    f"{name}: booleans are not allowed here, found {str(value).lower()}"
                )
    return data


def _takes_boolean(annotation: Any) -> bool:
    # Text is left to pydantic, which takes no booleans for it.
    # `Literal[False]` too: an option that can be switched off.
    flags = any(annotation is flag for flag in (True, False))
    return (
        flags
        or annotation in (bool, Any, str, Path)
        or any(map(_takes_boolean, get_args(annotation)))
    )


def build_options(cls: type[SomeOptions], given: Mapping[str, Any]) -> SomeOptions:
    """Validated options. Pydantic's ValidationError is left to the caller, who knows the line
    numbers."""
    return cls.model_validate(dict(given))


def source_hash(found: ModuleType) -> str:
    """SHA-256 over the Python sources of a plug-in: one module, or all of a package's.

    Prompts are left out, because their hashes are part of every episode's identity.
    """
    file = found.__file__
    if file is None:
        raise UsageError(f"{found.__name__} has no source file")
    path = Path(file)
    sources = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.relative_to(path.parent).as_posix().encode() + b"\0")
        digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()
