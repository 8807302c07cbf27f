r"""Loads a sweep file and overrides into plain data with known origins.

- `extends` names a base file, relative to the file; the file's own keys win; lists are replaced.
- An override that names a YAML file is merged over the sweep in the same way.
- `${oc.env:NAME}` and `${range:a,b}` are the only resolvers. `${other.key}` refers to another key,
  and `vars` holds values that exist only to be referred to. `\${` is a literal `${`.
- `recorded` keeps environment variables unexpanded, so that it may be written to disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from agents.core.errors import UsageError, near
from agents.core.paths import expand_user
from sweeps import grid
from sweeps.document import NotYaml, parse_document
from sweeps.environment import (
    ENV,
    OPEN,
    env_as_text,
    take_variables,
    unset_as_text,
    variables_read,
    with_texts,
)
from sweeps.origins import Origins, check, in_words, shown
from sweeps.schema import Artifacts, Cache, CellConfig, Header
from sweeps.storage.folder import Folder, folder_at

_VARS = "vars"
_ALLOWED = ("oc.env", "range")
_AS_TEXT = r"; to keep it as text, write \${ for ${ (\\${ in double quotes)"
_RESOLVER = re.compile(OPEN + r"\s*([A-Za-z_][\w.]*)\s*:")
_REFERENCE = re.compile(OPEN + r"\s*([\w.]+)")
_LONGEST_RANGE = 1_000_000


def _range(*given: Any) -> list[int]:
    try:
        found = range(*(int(str(n).removesuffix(".0")) for n in given))
    except (ValueError, TypeError):
        raise ValueError(
            f"range takes one to three whole numbers, found {','.join(map(str, given))}"
        ) from None
    numbers = list(found[: _LONGEST_RANGE + 1])
    if len(numbers) > _LONGEST_RANGE:
        raise ValueError(f"a range holds at most {_LONGEST_RANGE:,} numbers, found more")
    return numbers


OmegaConf.register_resolver("range", _range, replace=True)


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep file as plain data. `cell` is the part that a grid axis may change."""

    path: Path
    text: str
    header: Header
    cell: dict[str, Any]
    recorded: dict[str, Any]
    origins: Origins
    expanded: dict[str, str]
    """Values of environment variables -> how the file wrote them (`${oc.env:NAME}`)."""
    variables: dict[str, bool]
    """Environment variables that `${oc.env:NAME}` reads -> whether they must be set."""
    files: tuple[Path, ...] = ()
    """Every file that was read: the sweep, what it extends, and the files among the overrides."""
    tree: dict[str, Any] = field(default_factory=dict, repr=False)
    """The merged files and overrides before references are resolved."""

    @property
    def out_elsewhere(self) -> str:
        """The output folder as another machine has it: references to other keys are resolved,
        environment variables are not."""
        return str(OmegaConf.select(OmegaConf.create(with_texts(self.tree, env_as_text)), "out"))

    @property
    def out(self) -> Folder:
        """The output folder; a relative path is relative to the working folder."""
        try:
            return folder_at(self.header.out)
        except UsageError as error:
            raise self.origins.refuse(("out",), error.message) from None

    def as_written(self, value: Any) -> Any:
        """`value` with environment variables unexpanded, to be stored or shown."""
        if isinstance(value, dict):
            return {key: self.as_written(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.as_written(part) for part in value]
        if isinstance(value, str):
            for found, written in self.expanded.items():
                value = value.replace(found, written)
        return value


def load(path: Path, overrides: Sequence[str] = (), *, elsewhere: bool = False) -> LoadedSweep:
    """Reads and checks a sweep file. Raises UsageError with file and line.

    An override is `dotted.path=value`, or the path of a YAML file; later ones win. `elsewhere`
    means that the sweep will run on another machine: variables that are not set here stay as
    written, and `run.env_from` is ignored.
    """
    origins = Origins()
    path = expand_user(path)
    tree, text = _read(path, origins, seen=())
    return _loaded(path, tree, text, overrides, origins, elsewhere=elsewhere)


def load_recorded(config: Mapping[str, Any], place: str, overrides: Sequence[str]) -> LoadedSweep:
    """The same for a configuration that a manifest has recorded; messages name `place`."""
    text = json.dumps(config, ensure_ascii=False)
    document, origins = parse_document(text), Origins()
    origins.note(place, document, numbered=False)
    return _loaded(Path(place), document.value, text, overrides, origins)


def _loaded(
    path: Path,
    tree: dict[str, Any],
    text: str,
    overrides: Sequence[str],
    origins: Origins,
    *,
    elsewhere: bool = False,
) -> LoadedSweep:
    for override in overrides:
        if is_file(override):
            tree = _merge(tree, _read(expand_user(Path(override)), origins, seen=())[0])
        else:
            _override(tree, override, origins)
    origins.places[()] = str(path)
    tree.pop("extends", None)
    if not elsewhere:
        take_variables(tree.get("run"), origins)
    for keys, value in _leaves(tree):
        _only_allowed_resolvers(keys, value, origins, elsewhere=elsewhere)
    data = _resolve(with_texts(tree, unset_as_text) if elsewhere else tree, origins)
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
    files = tuple(dict.fromkeys(origins.files))
    read = variables_read(value for _, value in _leaves(tree))
    expanded = _expanded(tree)
    loaded = LoadedSweep(path, text, header, cell, recorded, origins, expanded, read, files, tree)
    _ = loaded.out  # refused here if there is no such folder
    return loaded


def is_file(override: str) -> bool:
    """Whether an override names a YAML file instead of setting a path."""
    return "=" not in override and Path(override).suffix in (".yaml", ".yml")


def cache_of(recorded: dict[str, Any]) -> Cache:
    """The call cache of a sweep as in the manifest. UsageError for an unset variable."""
    wanted = recorded.get("cache", {})
    if wanted is False or wanted == "off":
        return Cache(mode="off")
    return Cache.model_validate(expanded_part("cache", wanted))


def artifacts_of(recorded: dict[str, Any]) -> Artifacts:
    """Where a sweep's artifacts are, as in the manifest. UsageError like `cache_of`."""
    return Artifacts.model_validate(expanded_part("artifacts", recorded.get("artifacts", {})))


def expanded_part(name: str, recorded: Any) -> Any:
    """Part of a manifest's configuration, expanded. UsageError like `cache_of`."""
    try:
        return OmegaConf.to_container(OmegaConf.create(recorded), resolve=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"{name}: {str(error.msg or error).splitlines()[0]}") from None


def _read(path: Path, origins: Origins, seen: tuple[Path, ...]) -> tuple[dict[str, Any], str]:
    """The file merged over its bases, and its own text."""
    real = Path(os.path.realpath(path))
    if real in seen:
        raise UsageError(f"{path}: extends itself")
    text = _text_of(path)
    origins.files.append(path)
    try:
        document = parse_document(text)
    except NotYaml as error:
        raise UsageError(f"{path}:{error.line}: invalid YAML: {error.message}") from None
    own = document.value
    if own is None:
        raise UsageError(f"{path}: the file is empty; a sweep file is a mapping of keys")
    if not isinstance(own, dict):
        raise UsageError(f"{path}:1: a sweep file is a mapping of keys, found {in_words(own)}")
    merged: dict[str, Any] = {}
    base = own.get("extends")
    if base is not None:
        if not isinstance(base, str):
            raise UsageError(f"{path}: extends: expected a path, found {base!r}")
        try:
            merged, _ = _read(path.parent / expand_user(base), origins, (*seen, real))
        except UsageError as error:
            if error.message.startswith(("there is no ", "expected a sweep file")):
                raise UsageError(f"{path}: extends: {error.message}") from None
            raise
    origins.note(str(path), document)
    return _merge(merged, own), text


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no sweep file {path}{_near_file(path)}") from None
    except IsADirectoryError:
        raise UsageError(
            f"expected a sweep file, found the folder {path}{_sweeps_in(path)}"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: the sweep file is not UTF-8 text (byte 0x{error.object[error.start]:02x} at "
            f"{error.start}); save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the sweep file {str(path)!r} cannot be read: {reason}") from None


def _sweeps_in(folder: Path) -> str:
    names = sorted(p.name for p in folder.glob("*.yaml"))
    more = ", ..." if len(names) > 3 else ""
    return f" (it holds {', '.join(names[:3])}{more})" if names else ""


def _near_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    return near(path.name, [p.name for p in folder.glob("*.yaml")])


def _merge(base: Any, over: Any) -> Any:
    """Merges mappings key by key; anything else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: _merge(base.get(k), v) for k, v in over.items()}}
    return over


def _override(tree: dict[str, Any], override: str, origins: Origins) -> None:
    """Applies one `dotted.path=value`, the value in YAML."""
    place = f"override '{override if len(override) <= 200 else override[:197] + '...'}'"
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not all(dotted.split(".")):
        raise UsageError(
            f"{place}: expected path=value without spaces, such as cases.sample=20, or a YAML file"
        )
    try:
        document = parse_document(text)
    except NotYaml as error:
        raise UsageError(f"{place}: the value is invalid YAML: {error.message}") from None
    head, _, axis = dotted.partition(".")
    # An axis is one key, including its dots.
    keys = ["grid", axis] if head == "grid" and axis else grid.keys_of(tree, dotted)
    _must_exist(tree, keys, place)
    if any(dotted in block for block in _blocks(tree)):
        raise UsageError(f"{place}: the grid sets {dotted}; give grid.{dotted}=[...] instead")
    parent: Any = tree
    above, last = keys[:-1], keys[-1]
    for depth, key in enumerate(above):
        below = parent.get(key)
        if isinstance(below, str) and depth == 0:
            below = {"name": below}  # for example an option for `simulator: target_item`
        if below is not None and not isinstance(below, dict):
            raise UsageError(f"{place}: {'.'.join(keys[: depth + 1])} holds {below!r}, not options")
        parent[key] = below = dict(below or {})
        parent = below
    before, value = parent.get(last), document.value
    parent[last] = _merge(before, value)
    if isinstance(before, dict) and isinstance(value, dict):
        for key in value:  # the other axes stay as in the file
            origins.replace((*keys, key), place, document.below(key))
    else:
        origins.replace(keys, place, document)


def _blocks(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappings of axes in a file, as far as they are such."""
    found = [tree.get("grid"), *(tree.get("grids") or []), *(tree.get("zip") or [])]
    return [block for block in found if isinstance(block, dict)]


def _must_exist(tree: dict[str, Any], keys: Sequence[str], place: str) -> None:
    """Refuses paths that neither the file nor the schema has."""
    top = [*Header.model_fields, *CellConfig.model_fields, _VARS]
    if keys[0] == "extends":
        raise UsageError(f"{place}: extends is for files; give the file itself among the overrides")
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


def _only_allowed_resolvers(
    keys: tuple[Any, ...], value: Any, origins: Origins, *, elsewhere: bool
) -> None:
    if not isinstance(value, str):
        return
    for name in _RESOLVER.findall(value):
        if name not in _ALLOWED:
            raise origins.refuse(
                keys,
                f"unknown resolver ${{{name}:...}}; there are "
                f"{' and '.join(_ALLOWED)}{near(name, _ALLOWED)}{_AS_TEXT}",
            )
    for name, default in ENV.findall(value):
        if not default and name not in os.environ and not elsewhere:
            set_ones = [k for k in os.environ if k.isupper()]
            raise origins.refuse(
                keys,
                f"the environment variable {name} is not set: export it first"
                f"{near(name, set_ones)}{_AS_TEXT}",
            )


def _resolve(tree: dict[str, Any], origins: Origins) -> dict[str, Any]:
    try:
        config = OmegaConf.create(tree)
        assert isinstance(config, DictConfig)
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, tree, origins) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{origins.of(())}: {error}") from None
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def _unresolved(
    error: OmegaConfBaseException, tree: dict[str, Any], origins: Origins
) -> UsageError:
    """What is wrong with `${...}` in a value, where, and how to keep it as text."""
    leaves = {_full_key(keys): (keys, value) for keys, value in _leaves(tree)}
    keys, written = leaves.get(error.full_key or "", ((error.full_key,), ""))
    reason = str(error.msg or error).splitlines()[0]
    reason = reason.rpartition(" raised while resolving interpolation: ")[2]
    if isinstance(error, InterpolationKeyError | InterpolationToMissingValueError):
        name = (re.search(r"'([^']*)'", reason) or ("", reason))[1]
        known = {".".join(map(str, above)) for leaf, _ in leaves.values() for above in _above(leaf)}
        reason = f"there is no key {name!r}{near(name, sorted(known))}"
    elif isinstance(error, GrammarParseError):
        reason = f"cannot be read as a reference ${{...}}: {reason}"
    reason = f"{reason}, found {shown(written)}"
    return origins.refuse(keys, reason + _AS_TEXT)


def _full_key(keys: Sequence[Any]) -> str:
    """The path in OmegaConf's notation: `grid.seed[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def _above(keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    for depth, _ in enumerate(keys):
        yield tuple(keys[: depth + 1])


def _check_axes(data: dict[str, Any], origins: Origins) -> None:
    """Checks that every axis is a non-empty list of values."""
    blocks: list[tuple[tuple[Any, ...], Any]] = [(("grid",), data.get("grid"))]
    for key in ("grids", "zip"):
        entries = data.get(key)
        if entries is not None and not isinstance(entries, list):
            raise origins.refuse((key,), f"expected a list of mappings, found {entries!r}")
        if entries == [] and key == "grids":
            raise origins.refuse((key,), "expected at least one block of axes, found []")
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
        if not block and where[0] == "zip":
            raise origins.refuse(where, "expected at least one axis, found {}")


def _expanded(tree: dict[str, Any]) -> dict[str, str]:
    found = {}
    for _, value in _leaves(tree):
        for name, _default in ENV.findall(value) if isinstance(value, str) else ():
            found[os.environ.get(name, "")] = f"${{oc.env:{name}}}"
    # A short value would also be found inside unrelated words.
    return {value: written for value, written in found.items() if len(value) >= 4}


def _with_env_unexpanded(tree: Any, data: Any) -> Any:
    """`data`, with strings that may read the environment replaced by those of `tree`.

    A reference to another key counts too, because it may lead to one that does.
    """
    if isinstance(tree, dict) and isinstance(data, dict):
        return {k: _with_env_unexpanded(tree.get(k), v) for k, v in data.items()}
    if isinstance(tree, list) and isinstance(data, list):
        return [_with_env_unexpanded(t, v) for t, v in zip(tree, data, strict=True)]
    if isinstance(tree, str) and any(name != "range" for name in _REFERENCE.findall(tree)):
        return tree
    return data
