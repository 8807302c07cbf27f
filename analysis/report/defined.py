"""The tables and figures of a report: a sweep file's, the folder's own, or default ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from analysis.results import Results
from analysis.statistics.defined_tables import figure_named, table_named
from sweeps.schema import FigureSpec, Header, TableSpec
from sweeps.storage import folder as folders

_MANY = 8
"""Cells from which on the usual figures have one line per agent, not per cell."""


@dataclass(frozen=True)
class ReportDefinition:
    """`usual` means that nothing was defined, so it does not matter if a figure cannot be drawn."""

    question: str
    sweep_file: str = ""
    """As it was when the sweep was last run; empty where the folder has none."""
    tables: dict[str, TableSpec] = field(default_factory=dict)
    figures: dict[str, FigureSpec] = field(default_factory=dict)
    usual_tables: bool = False
    usual_figures: bool = False


def defined(results: Results, header: Header | None = None) -> ReportDefinition:
    """The definitions of `header` if there is one, otherwise those of the folder's last run.

    Without any table or figure, default ones. Raises UsageError if the folder's are of an unknown
    version.
    """
    if header is not None:
        question, tables, figures = header.question, dict(header.tables), dict(header.figures)
    else:
        config = results.manifest.config
        question = str(config.get("question") or "")
        tables = {name: table_named(results, name) for name in config.get("tables") or {}}
        figures = {name: figure_named(results, name) for name in config.get("figures") or {}}
    text = _sweep_file(results)
    return ReportDefinition(
        question=question or _comment(text),
        sweep_file=text,
        tables=tables or {"main": _usual_table(results)},
        figures=figures or _usual_figures(results),
        usual_tables=not tables,
        usual_figures=not figures,
    )


def _usual_table(results: Results) -> TableSpec:
    return TableSpec(rows=list(results.axes), ties=_first(results.varying_axes))


def _usual_figures(results: Results) -> dict[str, FigureSpec]:
    axis = _first(results.varying_axes) if len(results.manifest.cells) > _MANY else None
    kinds = ("turns", "cost", "shares")
    return {kind: FigureSpec.model_validate({"kind": kind, "axis": axis}) for kind in kinds}


def _first(axes: list[str]) -> str | None:
    """The agent, if it varies, else the first axis that does."""
    return "agent" if "agent" in axes else next(iter(axes), None)


def _sweep_file(results: Results) -> str:
    try:
        return folders.read(results.folder, "sweep.yaml").decode(errors="replace")
    except FileNotFoundError:
        return ""


def _comment(text: str) -> str:
    """The comment at the head of the sweep file, which most have in place of a question."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "yaml-language-server" not in line:
            lines.append(line.lstrip("#").strip())
    return "\n".join(lines).strip()
