"""Which weights a model has: a commit of the Hub, or the content of a local folder.

- A folder's path does not count: a copy elsewhere is the same model.
- Hashing 16 GB takes a while, so the digest of each file is kept in the user's cache folder for
  as long as the file's size, time and inode stay.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.core.errors import UsageError
from agents.core.paths import expand_user
from sweeps.identity import digest

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_MATTERS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".gguf"),
    *(".json", ".jsonl", ".model", ".tiktoken", ".txt", ".jinja", ".py"),
)
_LEFT_OUT = re.compile(
    # What a training run saves besides weights, and what only people read.
    r"(optimizer|scheduler|scaler|rng_state|training_args|trainer_state|all_results|"
    r"(train|eval|test)_results|readme|license|notice|use_policy|events\.out)",
    re.I,
)
# Copies of the weights in other forms, and earlier states; vLLM reads none of these.
_FOLDERS_LEFT_OUT = re.compile(
    r"\.|checkpoint-\d|global_step|(original|onnx|openvino|coreml|gguf|runs|logs|wandb|"
    r"__pycache__)$"
)
_THREADS = 4
_SETTLED = 2.0  # seconds: a file changed later than that may change again within its time stamp
_HUB_TIMEOUT = 10.0


@dataclass(frozen=True)
class Resolved:
    """One model's weights. `version` is a commit of the Hub, or the digest of a folder."""

    kind: Literal["hub", "local"]
    name: str
    """The Hub's id, or the folder's absolute path."""
    version: str
    path: Path | None
    """The folder with the files; None if the Hub's are not here yet."""

    def identity(self) -> dict[str, str]:
        """What of this decides a model's answers."""
        if self.kind == "local":
            return {"content": self.version}
        return {"hub": self.name, "commit": self.version}

    @property
    def quantised(self) -> bool:
        """Whether the checkpoint's config says so; False where its files are not here yet."""
        if self.path is None:
            return False
        try:
            config = json.loads((self.path / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and bool(config.get("quantization_config"))

    @property
    def revision(self) -> str | None:
        """The revision to load, which no longer moves; a folder has none."""
        return self.version if self.kind == "hub" else None


Known = dict[tuple[str, str, str], Resolved]
_known: Known = {}
_lock = threading.Lock()


def resolve(model: str, revision: str = "main", *, file: str = "config.json") -> Resolved:
    """The weights that `model` names, found once per process. UsageError if there are none.

    A folder must have `file`; empty: any folder is taken.
    """
    key = (model, revision, file)
    with _lock:
        if key not in _known:
            folder = Path(expand_user(model))
            if folder.exists():
                _known[key] = _local(model, folder.absolute(), revision, file)
            elif model.startswith((".", "/", "~")) or model.count("/") > 1:
                raise UsageError(f"model {model!r}: no such folder: {folder.absolute()}")
            else:
                _known[key] = _hub(model, revision)
        return _known[key]


def known() -> Known:
    """What this process has resolved so far, for others of the same run."""
    with _lock:
        return dict(_known)


def take(found: Known) -> None:
    """Takes over what the driver has resolved: a branch that moves must not split a run in two."""
    with _lock:
        _known.update(found)


def _local(model: str, folder: Path, revision: str, file: str) -> Resolved:
    if not folder.is_dir():
        named = f" with {file}" if file else ""
        raise UsageError(f"model {model!r} is a file: a folder{named} is needed")
    if file and not (folder / file).is_file():
        raise UsageError(f"model {model!r}: no {file} in {folder}")
    if revision != "main":
        raise UsageError(f"model {model!r} is a folder, which has no revision {revision!r}")
    return Resolved("local", str(folder), content(folder), folder)


def content(folder: Path) -> str:
    """Hex BLAKE2b-128 over names and bytes of a checkpoint's files, as far as they matter."""
    memory = _Memory(folder)

    def one(path: Path) -> tuple[str, str]:
        return path.relative_to(folder).as_posix(), memory.digest_of(path)

    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            found = dict(threads.map(one, _files(folder)))
    except OSError as error:
        raise UsageError(
            f"model {str(folder)!r}: {error.filename or folder} cannot be read: {error.strerror}"
        ) from None
    memory.save()
    return digest(found)


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _FOLDERS_LEFT_OUT.match(name))
        for name in sorted(names):
            path = Path(here, name)
            left_out = name.startswith(".") or _LEFT_OUT.match(name)
            if path.suffix.lower() in _MATTERS and not left_out:
                yield path


class _Memory:
    """Digests of the files of one folder, kept between processes as long as a file's stamp stays.

    A convenience: where the cache folder cannot be used, everything is hashed again.
    """

    def __init__(self, folder: Path) -> None:
        base = Path(expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
        self._file = base / "crsweep" / "weights" / f"{digest(str(folder))}.json"
        self._old = self._read()
        self._new: dict[str, list[Any]] = {}

    def digest_of(self, path: Path) -> str:
        stamp = _stamp(path)
        kept = self._old.get(str(path))
        if kept is not None and kept[:-1] == stamp:
            found = kept[-1]
        else:
            found = _hash(path)
            if _stamp(path) != stamp:
                raise UsageError(f"{path} changes while it is read")
            if time.time() - stamp[1] / 1e9 < _SETTLED:
                return found
        self._new[str(path)] = [*stamp, found]
        return found

    def save(self) -> None:
        if self._new == self._old:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump(self._new, out)
            Path(name).replace(self._file)
        except OSError as error:
            log.warning("cannot store the digests of weights: %s", error)

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> list[int]:
    found = path.stat()  # of what a link points to: the Hub's cache is made of links
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hub(model: str, revision: str) -> Resolved:
    try:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ModuleNotFoundError:
        raise UsageError(
            f"model {model!r}: there is no such folder, and ids of the Hub need the package "
            "huggingface_hub, which comes with the extras crsweep[vllm] and "
            "crsweep[sentence-transformers]"
        ) from None
    try:
        validate_repo_id(model)
    except HFValidationError:
        raise UsageError(f"model {model!r} is neither a folder nor an id of the Hub") from None
    if _COMMIT.fullmatch(revision):
        commit = revision.lower()
    else:
        commit = _commit(model, revision)
    snapshot = _cache(model) / "snapshots" / commit
    return Resolved("hub", model, commit, snapshot if snapshot.is_dir() else None)


def _commit(model: str, revision: str) -> str:
    """The commit that `revision` stands for now; where the Hub cannot be asked, for the cache."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    why = "offline"
    if not constants.HF_HUB_OFFLINE:
        try:
            found = HfApi().model_info(model, revision=revision, timeout=_HUB_TIMEOUT).sha
            if found:
                return found
        except RevisionNotFoundError:
            raise UsageError(f"model {model!r} has no revision {revision!r} on the Hub") from None
        except RepositoryNotFoundError:
            raise UsageError(
                f"the Hub has no model {model!r}, or this user may not see it (HF_TOKEN), "
                "and there is no such folder"
            ) from None
        except Exception as error:  # noqa: BLE001  (each version of its client raises others)
            why = f"the Hub cannot be reached ({type(error).__name__})"
    commit = _cached(model, revision)
    if commit is None:
        raise UsageError(
            f"model {model!r}: there is no such folder, and the Hub's commit of {revision!r} is "
            f"unknown: {why}, and it is not in the Hub's cache; give a folder, or the commit as "
            "`revision` (40 hex digits)"
        )
    return commit


def _cache(model: str) -> Path:
    """The folder of `model` in the Hub's cache on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"


def _cached(model: str, revision: str) -> str | None:
    try:
        found = (_cache(model) / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return found.lower() if _COMMIT.fullmatch(found) else None
