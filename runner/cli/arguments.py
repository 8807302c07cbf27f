"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE|FILE]...",
        help="Overrides such as cases.sample=20, or YAML files.",
    ),
]
Folder = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A sweep's output folder: a path, or s3://bucket/prefix."),
]


AcceptSourceChange = Annotated[
    bool,
    typer.Option("--accept-source-change", help="Keep results of older plug-in code and continue."),
]
AcceptArtifactChange = Annotated[
    bool,
    typer.Option(
        "--accept-artifact-change",
        help="Continue even if artifacts differ from those that finished episodes used.",
    ),
]


class Format(StrEnum):
    text = "text"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
