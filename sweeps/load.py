"""From a sweep file and overrides to plain data with known origins.

- `extends` names a base file, relative to the file; the file's own keys win, lists replace.
- An override that names a YAML file is merged over the sweep in the same way.
- `${oc.env:NAME}` and `${range:a,b}` are the only resolvers. `${other.key}` refers within, and
  `vars` holds values that are there to be referred to.
- `recorded` keeps environment variables unexpanded: it is what may be written to disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.core.errors import UsageError, near
from sweeps import grid
from sweeps.folder import Folder, folder_at
from sweeps.origins import Origins, check
from sweeps.schema import Artifacts, Cache, CellConfig, Header

_VARS = "vars"
_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_ALLOWED = ("oc.env", "range")
_REFERENCE = re.compile(r"\$\{\s*([\w.]+)")
_ENV = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)\s*(,[^}]*)?\}")

OmegaConf.register_resolver("range", lambda *a: list(range(*map(int, a))), replace=True)


@dataclass(frozen=True)
class Loaded:
    """A sweep file in plain data. `cell` is the part of it that a grid axis may change."""

    path: Path
    text: str
    header: Header
    cell: dict[str, Any]
    recorded: dict[str, Any]
    origins: Origins
    expanded: dict[str, str]
    """What environment variables brought in -> how the file wrote it (`${oc.env:NAME}`)."""

    @property
    def out(self) -> Folder:
        """The output folder; a relative path is relative to the working folder."""
        try:
            return folder_at(self.header.out)
        except UsageError as error:
            raise self.origins.refuse(("out",), error.message) from None

    def as_written(self, value: Any) -> Any:
        """`value` with environment variables unexpanded: it is going to be stored or shown."""
        if isinstance(value, dict):
            return {key: self.as_written(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.as_written(part) for part in value]
        if isinstance(value, str):
            for found, written in self.expanded.items():
                value = value.replace(found, written)
        return value


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Reads and checks a sweep file; UsageError with file and line for whatever is wrong.

    An override is `dotted.path=value`, or the path of a YAML file of keys; later ones win.
    """
    origins = Origins()
    tree, text = _read(path, origins, seen=())
    for override in overrides:
        if "=" not in override and Path(override).suffix in (".yaml", ".yml"):
            tree = _merge(tree, _read(Path(override), origins, seen=())[0])
        else:
            _override(tree, override, origins)
    origins.places[()] = str(path)
    tree.pop("extends", None)
    for keys, value in _leaves(tree):
        _only_allowed_resolvers(keys, value, origins)
    data = _resolve(tree, origins)
    known = [*Header.model_fields, *CellConfig.model_fields, _VARS]
    if not isinstance(data.get(_VARS, {}), dict):
        raise origins.refuse((_VARS,), f"expected a mapping of names, found {data[_VARS]!r}")
    for key in data:
        if key not in known:
            raise origins.refuse((key,), f"unknown key {key!r}{near(key, known)}")
    _check_axes(data, origins)
    header = check(Header, {k: v for k, v in data.items() if k in Header.model_fields}, origins)
    cell = {k: v for k, v in data.items() if k in CellConfig.model_fields}
    recorded = _with_env_unexpanded(tree, data)
    return Loaded(path, text, header, cell, recorded, origins, _expanded(tree))


def cache_of(recorded: dict[str, Any]) -> Cache:
    """The call cache of a sweep as the manifest has it. UsageError where a variable is not set."""
    wanted = recorded.get("cache", {})
    if wanted is False or wanted == "off":
        return Cache(mode="off")
    return Cache.model_validate(_expanded_part("cache", wanted))


def artifacts_of(recorded: dict[str, Any]) -> Artifacts:
    """Where a sweep's artifacts are, as the manifest has it. UsageError like `cache_of`."""
    return Artifacts.model_validate(_expanded_part("artifacts", recorded.get("artifacts", {})))


def _expanded_part(name: str, recorded: Any) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.create(recorded), resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"{name}: {str(error.msg or error).splitlines()[0]}") from None


def _read(path: Path, origins: Origins, seen: tuple[Path, ...]) -> tuple[dict[str, Any], str]:
    """The file merged over its bases, and its own text."""
    if path.resolve() in seen:
        raise UsageError(f"{path}: extends itself")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no sweep file {path}{_near_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the sweep file {path} cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _no_double_keys(path, node)
        own = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UsageError(f"{path}:{line}: invalid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: invalid YAML: {error}") from None
    if not isinstance(own, dict):
        raise UsageError(f"{path}:1: a sweep file is a mapping of keys, found {type(own).__name__}")
    own = _string_keys(own)
    merged: dict[str, Any] = {}
    base = own.get("extends")
    if base is not None:
        if not isinstance(base, str):
            raise UsageError(f"{path}: extends: expected a path, found {base!r}")
        try:
            merged, _ = _read(path.parent / base, origins, (*seen, path.resolve()))
        except UsageError as error:
            if error.message.startswith("there is no sweep file"):
                raise UsageError(f"{path}: extends: {error.message}") from None
            raise
    origins.note_file(str(path), node)
    return _merge(merged, own), text


def _near_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    return near(path.name, [p.name for p in folder.glob("*.yaml")])


def _no_double_keys(path: Path, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UsageError(f"{path}:{line}: the key {key.value!r} stands here twice")
            seen.add(key.value)
            _no_double_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _no_double_keys(path, value)


def _string_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _string_keys(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_string_keys(v) for v in value]
    return value


def _merge(base: Any, over: Any) -> Any:
    """Mappings merge key by key; anything else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: _merge(base.get(k), v) for k, v in over.items()}}
    return over


def _override(tree: dict[str, Any], override: str, origins: Origins) -> None:
    """Applies one `dotted.path=value`, the value in YAML."""
    place = f"override '{override}'"
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not all(dotted.split(".")):
        raise UsageError(f"{place}: expected path=value, such as cases.sample=20, or a YAML file")
    try:
        value = _string_keys(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UsageError(f"{place}: the value is no YAML: {str(error).splitlines()[0]}") from None
    head, _, axis = dotted.partition(".")
    # An axis is one key, dots and all.
    keys = ["grid", axis] if head == "grid" and axis else grid.keys_of(tree, dotted)
    _must_exist(tree, keys, place)
    if any(dotted in block for block in _blocks(tree)):
        raise UsageError(f"{place}: the grid sets {dotted}; give grid.{dotted}=[...] instead")
    parent: Any = tree
    above, last = keys[:-1], keys[-1]
    for depth, key in enumerate(above):
        below = parent.get(key)
        if isinstance(below, str) and depth == 0:
            below = {"name": below}  # `simulator: target_item` given an option
        if below is not None and not isinstance(below, dict):
            raise UsageError(f"{place}: {'.'.join(keys[: depth + 1])} holds {below!r}, not options")
        parent[key] = below = dict(below or {})
        parent = below
    parent[last] = _merge(parent.get(last), value)
    origins.replace(keys, place)


def _blocks(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappings of axes in a file, as far as they are such."""
    found = [tree.get("grid"), *(tree.get("grids") or []), *(tree.get("zip") or [])]
    return [block for block in found if isinstance(block, dict)]


def _must_exist(tree: dict[str, Any], keys: Sequence[str], place: str) -> None:
    """Refuses paths that neither the file nor the schema knows."""
    top = [*Header.model_fields, *CellConfig.model_fields, _VARS]
    if keys[0] not in top:
        raise UsageError(f"{place}: there is no {keys[0]!r}{near(keys[0], top)}")
    if keys[0] == _VARS and len(keys) > 1 and keys[1] not in (tree.get(_VARS) or {}):
        names = list(tree.get(_VARS) or {})
        raise UsageError(f"{place}: there is no variable {keys[1]!r}{near(keys[1], names)}")
    if keys[0] == "models" and len(keys) > 1 and keys[1] not in tree.get("models", {}):
        models = list(tree.get("models", {}))
        raise UsageError(f"{place}: there is no model {keys[1]!r}{near(keys[1], models)}")


def _leaves(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        return [leaf for k, v in value.items() for leaf in _leaves(v, (*keys, k))]
    if isinstance(value, list):
        return [leaf for i, v in enumerate(value) for leaf in _leaves(v, (*keys, i))]
    return [(keys, value)]


def _only_allowed_resolvers(keys: tuple[Any, ...], value: Any, origins: Origins) -> None:
    if not isinstance(value, str):
        return
    for name in _RESOLVER.findall(value):
        if name not in _ALLOWED:
            raise origins.refuse(
                keys,
                f"unknown resolver ${{{name}:...}}; there are "
                f"{' and '.join(_ALLOWED)}{near(name, _ALLOWED)}",
            )
    for name, default in _ENV.findall(value):
        if not default and name not in os.environ:
            set_ones = [k for k in os.environ if k.isupper()]
            raise origins.refuse(
                keys, f"the environment variable {name} is not set{near(name, set_ones)}"
            )


def _resolve(tree: dict[str, Any], origins: Origins) -> dict[str, Any]:
    try:
        config = OmegaConf.create(tree)
        assert isinstance(config, DictConfig)
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        keys = re.split(r"[.\[\]]+", (error.full_key or "").strip("]"))
        reason = str(error.msg or error).splitlines()[0]
        raise origins.refuse([k for k in keys if k], reason) from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{origins.of(())}: {error}") from None
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def _check_axes(data: dict[str, Any], origins: Origins) -> None:
    """Every axis is a list of values, and not an empty one."""
    blocks: list[tuple[tuple[Any, ...], Any]] = [(("grid",), data.get("grid"))]
    for key in ("grids", "zip"):
        entries = data.get(key)
        if entries is not None and not isinstance(entries, list):
            raise origins.refuse((key,), f"expected a list of mappings, found {entries!r}")
        blocks += [((key, i), entry) for i, entry in enumerate(entries or [])]
    for where, block in blocks:
        if block is None:
            continue
        if not isinstance(block, dict):
            raise origins.refuse(where, f"expected a mapping of axes, found {block!r}")
        for axis, values in block.items():
            if not isinstance(values, list):
                raise origins.refuse(
                    (*where, axis),
                    f"an axis must be a list of values, found {values!r}; did you mean [{values}]?",
                )
            if not values:
                raise origins.refuse(
                    (*where, axis), "an axis must have at least one value, found []"
                )


def _expanded(tree: dict[str, Any]) -> dict[str, str]:
    found = {}
    for _, value in _leaves(tree):
        for name, _default in _ENV.findall(value) if isinstance(value, str) else ():
            found[os.environ.get(name, "")] = f"${{oc.env:{name}}}"
    # A short value would be found in the middle of words that have nothing to do with it.
    return {value: written for value, written in found.items() if len(value) >= 4}


def _with_env_unexpanded(tree: Any, data: Any) -> Any:
    """`data`, but every string of `tree` that may read the environment as it was written.

    A reference to another key counts too: it may lead to one that does.
    """
    if isinstance(tree, dict) and isinstance(data, dict):
        return {k: _with_env_unexpanded(tree.get(k), v) for k, v in data.items()}
    if isinstance(tree, list) and isinstance(data, list):
        return [_with_env_unexpanded(t, v) for t, v in zip(tree, data, strict=True)]
    if isinstance(tree, str) and any(name != "range" for name in _REFERENCE.findall(tree)):
        return tree
    return data
