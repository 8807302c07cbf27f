"""What `crsweep submit` sends: the code, the sweep, and the files that it names. Nothing else.

Paths of the package are relative to its root, which is the working folder of the driver on the
cluster:

- the six packages, as on disk;
- the sweep with the files that it extends and the files among the overrides: where they are in the
  checkout, or below `sweep/` if any of them is elsewhere;
- prompt folders and outside plug-ins that the sweep names, where they are relative to the working
  folder here;
- `crsweep-package.json`, which lists them with their digests.

Results, data and secrets are never among them: see `runner.submit.files` and
`runner.submit.secrets`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import yaml

from agents.core.errors import UsageError
from runner.core.locations import mib
from runner.core.sent import FILE, ROOT, SentPackage
from runner.submit.files import revision_of, sources_of
from runner.submit.secrets import check_contents
from sweeps.load import LoadedSweep, is_file
from workers.core.code import PACKAGES

LARGEST = 50 * 2**20
"""Bytes of a package, compressed. Ray takes 100 MiB at most, and keeps them in the memory of its
head node."""

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same files are the same package, whenever it was made


@dataclass
class Package:
    """Everything that is sent, in memory. `content` maps paths of the package to their bytes."""

    content: dict[str, bytes] = field(default_factory=dict)
    untracked: list[str] = field(default_factory=list)
    """What git does not track; listed before it is sent."""
    left_out: list[str] = field(default_factory=list)
    """What was not sent although it is in a folder that was."""
    installed: list[str] = field(default_factory=list)
    """Packages of plug-ins that the nodes must have installed."""
    sweep: str = ""
    """The path of the sweep file in the package."""
    overlays: dict[str, str] = field(default_factory=dict)
    """A file among the overrides -> its path in the package."""
    revision: str | None = None
    dirty: bool | None = None

    def add(self, root: Path, folders: Sequence[str], below: str = "") -> None:
        """Adds the source files in some folders of `root`, at the same paths below `below`."""
        found = sources_of(root, folders)
        for name in found.files:
            self.content[f"{below}{name}"] = _bytes_of(root / name)
        self.untracked += [str(root / name) for name in found.untracked]
        self.left_out += [str(root / name) for name in found.left_out]

    def archive(self, command: str) -> bytes:
        """A ZIP file of everything. UsageError if it is larger than a cluster takes.

        `command` is what was typed, for lines that say how to resume.
        """
        digests = {n: hashlib.sha256(c).hexdigest() for n, c in sorted(self.content.items())}
        about = SentPackage(digests, self.revision, self.dirty, command)
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in [*sorted(self.content.items()), (FILE, about.content())]:
                entry = zipfile.ZipInfo(name, _DATE)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        packed = sink.getvalue()
        if len(packed) > LARGEST:
            largest = sorted(self.content, key=lambda name: -len(self.content[name]))[:3]
            sizes = ", ".join(f"{name} ({mib(len(self.content[name]))})" for name in largest)
            raise UsageError(
                f"the package has {mib(len(packed))}, over the limit of {mib(LARGEST)}; the "
                f"largest files are {sizes}. Keep data on storage that all nodes mount"
            )
        return packed


def make_package(loaded: LoadedSweep, overrides: Sequence[str]) -> Package:
    """The package of a sweep that was loaded here. UsageError for what a cluster could not find."""
    package = Package()
    package.add(ROOT, PACKAGES)
    package.content |= _distribution()
    package.revision, package.dirty = revision_of(ROOT)
    _add_sweep(package, loaded, [Path(each) for each in overrides if is_file(each)])
    for prompts in _prompt_folders(loaded):
        _add_prompts(package, prompts, loaded)
    for module in _outside_modules(loaded):
        _add_module(package, module)
    check_contents(package.content, loaded.header.run.env_from)
    return package


def _add_sweep(package: Package, loaded: LoadedSweep, overlays: Sequence[Path]) -> None:
    for file in loaded.files:
        base = (yaml.safe_load(_bytes_of(file)) or {}).get("extends")
        if base is not None and (Path(base).is_absolute() or str(base).startswith("~")):
            raise UsageError(
                f"{file}: extends: the cluster has no {base}; give a path relative to the file"
            )
    files = [_absolute(file) for file in loaded.files]
    if all(file.is_relative_to(ROOT) for file in files):
        root, below = ROOT, ""
    else:
        root, below = Path(os.path.commonpath([file.parent for file in files])), "sweep/"
    names = {file: below + file.relative_to(root).as_posix() for file in files}
    for file, name in names.items():
        package.content[name] = _bytes_of(file)
    package.sweep = names[files[0]]
    package.overlays = {str(each): names[_absolute(Path(each))] for each in overlays}


def _add_prompts(package: Package, prompts: str, loaded: LoadedSweep) -> None:
    path = Path(prompts)
    if path.is_absolute() or prompts.startswith("~") or ".." in path.parts:
        raise UsageError(
            f"{loaded.path}: prompts: the cluster has no {prompts}; give a path below the working "
            f"folder ({Path.cwd()}), and it is sent with the sweep"
        )
    if not path.is_dir():
        raise UsageError(f"{loaded.path}: prompts: {prompts} is not a folder")
    package.add(Path.cwd(), [path.as_posix()])


def _add_module(package: Package, name: str) -> None:
    """Adds a package of plug-ins, unless the nodes are to have it installed."""
    spec = _spec_of(name)
    if spec is None:
        raise UsageError(f"the sweep names a plug-in of {name!r}, which cannot be imported here")
    places = [*(spec.submodule_search_locations or []), *([spec.origin] if spec.origin else [])]
    place = _absolute(Path(places[0]))
    libraries = {Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib")}
    if any(place.is_relative_to(library) for library in libraries):
        package.installed.append(name)
        return
    # Imports look for it in the root of the package.
    package.add(place.parent, [place.name])


def _prompt_folders(loaded: LoadedSweep) -> list[str]:
    found = [value for keys, value in strings_of(loaded) if keys and keys[-1] == "prompts"]
    return list(dict.fromkeys(found))


def _outside_modules(loaded: LoadedSweep) -> list[str]:
    """The top-level packages of plug-ins that a sweep names by a dotted name."""
    own = {*PACKAGES, *sys.stdlib_module_names}
    found = [
        value.partition(".")[0]
        for keys, value in strings_of(loaded)
        if keys and keys[-1] in _PLUGINS and _MODULE.fullmatch(value)
    ]
    return [name for name in dict.fromkeys(found) if name not in own]


_PLUGINS = (
    "name", "backend", "agent", "simulator", "critic", "domain", "success", "recommender", "judges",
)  # fmt: skip


def strings_of(loaded: LoadedSweep) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of the sweep, with its keys; those of an axis are split at their dots."""
    header = loaded.header
    grids = [*header.blocks, *header.zip]
    yield from _texts(loaded.cell, ())
    yield from _texts([judge.model_dump() for judge in header.judges], ("judges",))
    for axes in grids:
        for axis, values in axes.items():
            yield from _texts(values, tuple(axis.split(".")))


def _texts(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _texts(part, (*keys, str(key)))
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, keys)
    elif isinstance(value, str):
        yield keys, value


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _distribution() -> dict[str, bytes]:
    """What makes the package a distribution to Python, without an installation: its version, and
    the entry points that vLLM looks for in each of its processes."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items()), ""]
    folder = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {
        f"{folder}/METADATA": about.encode(),
        f"{folder}/entry_points.txt": "\n".join(lines).encode(),
    }


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be sent: {error.strerror or error}") from None


def _absolute(path: Path) -> Path:
    """Without `..`; links are kept, since other files are found relative to where they are."""
    return Path(os.path.normpath(path.absolute()))
