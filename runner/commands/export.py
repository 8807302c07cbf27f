"""`crsweep export`: results for others, without names or in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from agents.core.errors import UsageError, near
from agents.core.plural import many
from analysis.export import every_eval_ever, scout
from analysis.export.anonymous import write_anonymous
from analysis.results import Results
from runner.core.screen import print_line

FORMATS = ("scout", "every-eval-ever")


def show_export(
    folder: str,
    out: Path | None,
    *,
    format: str | None,
    anonymous: bool,
    name: str,
    organization: str,
    console: Console,
) -> None:
    """Writes an export into the folder `out`. Raises UsageError for an unknown format."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format {format}{near(format, FORMATS)} (known: {', '.join(FORMATS)})")
    if (format is None) != anonymous:
        raise UsageError(
            "expected either --anonymous, which copies the folder, or --format "
            f"({', '.join(FORMATS)}), which includes texts or settings that --anonymous removes"
        )
    results = Results.open(folder)
    out = out or Path(name if anonymous else f"{results.manifest.name}_{format}")
    if format == "scout":
        count = scout.write_transcripts(results, out)
        said = f"{many(count, 'transcript')} for inspect_scout {scout.VERSION}"
    elif format == "every-eval-ever":
        count = every_eval_ever.write_records(results, out, organization)
        said = f"{many(count, 'record')} of Every Eval Ever, schema {every_eval_ever.VERSION}"
    else:
        left = write_anonymous(results, out, name)
        said = "the results without names, machines, paths and texts"
        for line in left:
            print_line(console, f"check this by hand, it may contain a name: {line}")
    print_line(console, f"wrote to {out}: {said}")
