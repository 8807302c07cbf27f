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
FolderArgument = Annotated[
    str,
    typer.Argument(metavar="DIR", help="A sweep's output folder: a path, or s3://bucket/prefix."),
]


AcceptSourceChange = Annotated[
    bool,
    typer.Option(
        "--accept-source-change", help="Continue, and keep results of older plug-in code."
    ),
]
AcceptArtifactChange = Annotated[
    bool,
    typer.Option(
        "--accept-artifact-change",
        help="Continue even if artifacts differ from those that finished episodes used.",
    ),
]


WaitForLease = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="How long to wait for another driver's lease to expire.",
    ),
]


Retry = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS",
        help="Rerun what failed with this error class or blame; may be repeated.",
    ),
]


AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The job server of a Ray cluster, such as http://localhost:8265.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Where results go, instead of the sweep's `out`."),
]


class Format(StrEnum):
    text = "text"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    html = "html"


def listed(text: str | None) -> list[str]:
    """Splits `a,b` at commas; empty for None."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
