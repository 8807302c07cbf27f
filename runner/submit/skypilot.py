"""A SkyPilot task for a sweep, with the files that belong to it. SkyPilot itself is not needed."""

from __future__ import annotations

import io
import json
import re
import shlex
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from string import Template

from agents.core.errors import UsageError
from workers.core.code import ROOT

TEMPLATE = "deploy/skypilot/task.yaml.in"


def write_folder(
    folder: Path,
    archive: bytes,
    *,
    name: str,
    command: Sequence[str],
    variables: Sequence[str],
    extras: Sequence[str],
) -> Path:
    """Writes `task.yaml` and the unpacked package to a new folder; the package's folder.

    `variables` become secrets of the task, whose values are given to SkyPilot when it starts it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--skypilot {folder}: expected a new or empty folder")
    package = (folder / "package").absolute()
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(package)
    (package / "constraints.txt").write_bytes((ROOT / "constraints.txt").read_bytes())
    (package / "requirements.txt").write_text("\n".join(_requirements(extras)) + "\n")
    secrets = "secrets:\n" + "".join(f"  {each}: null\n" for each in variables)
    template = Template((ROOT / TEMPLATE).read_text(encoding="utf-8"))
    task = template.substitute(
        name=re.sub(r"[^a-z0-9-]", "-", name.lower()),
        folder=shlex.quote(str(folder)),
        workdir=json.dumps(str(package)),
        secrets=secrets if variables else "",
        command=shlex.join(command),
    )
    (folder / "task.yaml").write_text(task, encoding="utf-8")
    return package


def _requirements(extras: Sequence[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(need for extra in extras for need in optional[extra])]
