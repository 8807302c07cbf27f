"""The report of a sweep: one HTML file that needs no network and runs no script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from agents.core.errors import UsageError
from analysis.figures.draw import Drawing, draw
from analysis.html import templates_in
from analysis.report import facts
from analysis.report.defined import ReportDefinition
from analysis.report.samples import MOST, samples
from analysis.results import Results
from analysis.statistics import agreement, pairs
from analysis.statistics.defined_tables import sheet_for
from analysis.tables import sheets
from analysis.tables.render import sheet
from analysis.tables.table import make_table
from analysis.tables.table_notes import watermarks
from sweeps.schema import FigureSpec, TableSpec

_TEMPLATES = Path(__file__).parent / "templates"
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


class MadeTable(NamedTuple):
    """A table, or the reason why it could not be made."""

    name: str
    sheet: sheets.Sheet | None
    problem: str = ""


class MadeFigure(NamedTuple):
    """A figure, or the reason why it could not be drawn."""

    name: str
    spec: FigureSpec
    drawing: Drawing | None
    problem: str = ""


class ReportContents(NamedTuple):
    tables: list[MadeTable]
    figures: list[MadeFigure]


def make(results: Results, wanted: ReportDefinition) -> ReportContents:
    """Makes all tables and figures; a problem with one does not affect the others."""
    tables = [_table(results, name, spec) for name, spec in wanted.tables.items()]
    tables += _of_judges(results)
    return ReportContents(
        tables, [_figure(results, name, spec) for name, spec in wanted.figures.items()]
    )


def page(
    results: Results,
    wanted: ReportDefinition,
    made: ReportContents,
    *,
    dialogues: int,
    source: str,
    titles: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The page. `dialogues` of each outcome and cell are shown; `source` says whose definitions
    of tables and figures `wanted` are; `titles` has those of items, by source and id."""
    figures = [
        (one, inline_svg(one.drawing.svg(), f"f{n}-", one.name) if one.drawing else None)
        for n, one in enumerate(made.figures)
        if one.drawing or not wanted.usual_figures
    ]
    shared, differ = facts.shared_settings(results)
    shown = samples(results, dialogues, titles or {})
    return (
        templates_in(_TEMPLATES)
        .get_template("report.html")
        .render(
            name=results.manifest.name,
            css=Markup((_TEMPLATES / "report.css").read_text()),
            question=wanted.question,
            watermarks=watermarks(results),
            tables=[(one, _html(one.sheet) if one.sheet else None) for one in made.tables],
            figures=figures,
            source=source,
            planned=sum(results.planned.values()),
            done=results.query("SELECT count(*) FROM episodes WHERE status = 'done'").fetchall()[0][
                0
            ],
            coverage=_html(facts.coverage(results)),
            failures=_filled(facts.failures(results)),
            by_step=_filled(facts.cost_by_step(results)),
            by_cell=_filled(facts.cost_by_cell(results)),
            spent=facts.spent(results),
            shared=shared,
            differ=differ,
            provenance=facts.provenance(results),
            plugins=_filled(facts.plugin_versions(results)),
            sweep=wanted.sweep_file,
            samples=shown,
            cut=len(shown) == MOST,
        )
    )


def inline_svg(text: str, prefix: str, label: str) -> Markup:
    """An SVG of matplotlib as part of a page: its ids prefixed, comments and metadata left out.

    Two figures of a page would otherwise share ids.
    """
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata":
                parent.remove(child)
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, prefix + value)
            elif key in ("href", f"{{{_LINK}}}href") and value.startswith("#"):
                element.set(key, f"#{prefix}{value[1:]}")
            else:
                element.set(key, _REFERENCE.sub(rf"url(#{prefix}\1)", value))
    for key in ("width", "height"):
        root.attrib.pop(key, None)  # as wide as its column
    root.set("role", "img")
    root.set("aria-label", label)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _LINK)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _table(results: Results, name: str, spec: TableSpec) -> MadeTable:
    return _made(name, lambda: _sheet(results, spec))


def _sheet(results: Results, spec: TableSpec) -> sheets.Sheet:
    if spec.rows or spec.columns or spec.ties or spec.by or spec.published:
        return sheet_for(results, spec)
    # A row for each cell, as `crsweep table` has.
    return sheet(make_table(results, spec.metrics or results.manifest.metrics))


def _of_judges(results: Results) -> list[MadeTable]:
    """The results of judges of pairs and of people, if there are any."""
    found = []
    rows = results.query("SELECT count(annotator), count(other_attempt_id) FROM judgements")
    labels, compared = rows.fetchall()[0]
    if compared:
        found.append(_made("pairs", lambda: pairs.sheet(pairs.make_pairs(results))))
    if labels:
        make = agreement.make_agreement
        found.append(_made("agreement", lambda: agreement.sheet(make(results, None))))
    return found


def _made(name: str, make: Callable[[], sheets.Sheet]) -> MadeTable:
    try:
        return MadeTable(name, make())
    except UsageError as error:
        return MadeTable(name, None, error.message)


def _figure(results: Results, name: str, spec: FigureSpec) -> MadeFigure:
    try:
        return MadeFigure(name, spec, draw(results, spec))
    except UsageError as error:
        return MadeFigure(name, spec, None, error.message)


def _html(found: sheets.Sheet) -> Markup:
    return Markup(sheets.html_table(found))  # which escapes every text


def _filled(found: sheets.Sheet) -> Markup | None:
    return _html(found) if found.rows else None
