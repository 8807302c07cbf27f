"""`crsweep plot`: a figure of stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from rich.console import Console

from agents.core.errors import UsageError, near
from analysis.figures.draw import draw
from analysis.results import Results
from analysis.statistics.defined_tables import figure_named
from sweeps.schema import FigureSpec

KINDS = get_args(FigureSpec.model_fields["kind"].annotation)


def show_plot(
    folder: str,
    figure: str,
    *,
    metrics: Sequence[str],
    axis: str | None,
    by: Sequence[str] = (),
    of: str | None,
    parts: int | None = None,
    width: str | None,
    out: Sequence[Path],
    console: Console,
) -> None:
    """Draws a figure of the sweep file, or one of the built-in kinds, into the files `out`.

    Options take precedence over the sweep file. Raises UsageError.
    """
    results = Results.open(folder)
    spec = _spec(results, figure)
    given = {
        "metrics": list(metrics) or None,
        "axis": axis,
        "by": list(by) or None,
        "of": of,
        "parts": parts,
        "width": width,
    }
    try:
        changed = {key: value for key, value in given.items() if value is not None}
        spec = FigureSpec(**spec.model_dump() | changed)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # options that cannot be combined
            raise UsageError(first["msg"].removeprefix("Value error, ")) from None
        raise UsageError(
            f"--{first['loc'][0]} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}"
        ) from None
    drawing = draw(results, spec)
    for path in out or [Path(f"{results.manifest.name}_{figure}.pdf")]:
        drawing.save(path)
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    if drawing.note:
        console.print(drawing.note, markup=False, soft_wrap=True)


def _spec(results: Results, figure: str) -> FigureSpec:
    named = list(results.manifest.config.get("figures") or {})
    if figure in named:
        return figure_named(results, figure)
    if figure in KINDS:
        return FigureSpec.model_validate({"kind": figure})
    known = list(dict.fromkeys([*KINDS, *named]))
    raise UsageError(
        f"there is no figure {figure!r}{near(figure, known)} (known: {', '.join(known)})"
    )
