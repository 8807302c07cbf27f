"""A LaTeX appendix for reproducibility: models, decoding, data, hardware, seeds and prompts.

It needs the packages booktabs and textcomp, T1 fonts, and compiles with pdfLaTeX in one column or
two. Prompts are those that were sent, because a folder has no templates: the first call of each
role and step.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from agents.core.errors import UsageError
from agents.core.plural import many
from analysis.report import facts
from analysis.results import Results
from analysis.tables import sheets
from analysis.tables.sheets import Sheet
from analysis.tables.table_notes import watermarks
from sweeps.identity import resolve_role

_HEAD = r"""\documentclass{article}
\usepackage[margin=2.5cm]{geometry}
\usepackage[T1]{fontenc}
\usepackage{textcomp,booktabs}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\begin{document}
\appendix
"""
_PROMPT = 6_000  # characters
_REPLY = 1_500
_MOST_PROMPTS = 60
_CHUNK = 12  # characters between two places where a long word may break
_KNOWN = frozenset("–—‘’“”„…•†‡€£§°±×÷µ¿¡«»")
"""Characters beyond Latin letters that pdfLaTeX has without another package."""
_MACHINE = {"platform": "{}", "processor": "{}", "cpu": "{}", "cores": "{} cores",
            "memory_gib": "{} GiB of memory"}  # fmt: skip
_STATISTICS = ("crsweep", "duckdb", "numpy", "pandas", "pyarrow", "scipy", "statsmodels")
"""Those of this machine: figures are computed when they are written."""
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}", '"': r"\textquotedbl{}", "-": "{-}", ",": "{,}", "[": "{[}",
    "•": r"\textbullet{}", "×": r"\texttimes{}", "÷": r"\textdiv{}", "±": r"\textpm{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}  # fmt: skip


def appendix(results: Results, *, standalone: bool, prompts: bool = True) -> str:
    """The appendix, to be `\\input`; with `standalone` a document of its own."""
    blocks = [
        "% Made by crsweep appendix. Needs \\usepackage[T1]{fontenc}, textcomp and booktabs.",
        r"\section{Reproducibility}",
        *(rf"\noindent\textbf{{{latex_text(line)}}}\par" for line in watermarks(results)),
        *_models(results),
        *_settings(results),
        *_data(results),
        *_hardware(results),
        *_table("Calls and tokens by role and step", facts.cost_by_step(results)),
        *_table("Planned, finished and failed episodes", facts.coverage(results)),
        *(_prompts(results) if prompts else ()),
    ]
    text = "\n".join(blocks) + "\n"
    return f"{_HEAD}{text}\\end{{document}}\n" if standalone else text


def latex_text(text: str) -> str:
    """`text` as LaTeX on one line. What pdfLaTeX has no letter for is written as its number."""
    return "".join(map(_letter, unicodedata.normalize("NFC", sheets.printable(text))))


def _models(results: Results) -> Iterator[str]:
    """Each model under its name in the sweep: what it is published as, who it plays, decoding."""
    yield r"\subsection{Models and decoding}"
    config = results.manifest.config
    declared = config.get("models") or {}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in results.manifest.cells:
        roles = dict(config.get("roles") or {})
        for axis, value in cell.axes.items():
            if axis.startswith("roles."):
                roles[axis.removeprefix("roles.")] = value
        for role, model in (cell.settings.get("models") or {}).items():
            found.setdefault((_name_of(role, roles), _published(model)), {})[role] = None
    for judge in results.manifest.judges:
        for role, name in judge.models.items():
            found.setdefault((name, _published(declared.get(name) or {})), {})[role] = None
    rows = [
        (name or ", ".join(roles), f"{text}; roles: {', '.join(roles)}")
        for (name, text), roles in found.items()
    ]
    yield from _facts(rows, "The manifest of this folder names no models.")


def _name_of(role: str, roles: Mapping[str, str]) -> str:
    """The name that the sweep gives the model of a role; empty where it is not recorded."""
    try:
        return resolve_role(role, roles)
    except UsageError:
        return ""


def _published(model: Mapping[str, Any]) -> str:
    """`org/model, revision abc; options`: what others find it by comes first."""
    rest = {key: value for key, value in model.items() if key not in ("model", "revision")}
    published = [str(model["model"])] if model.get("model") else []
    if published:
        revision = model.get("revision")
        published.append(f"revision {revision}" if revision else "no revision stated")
    return "; ".join(filter(None, [", ".join(published), _options(rest)]))


def _settings(results: Results) -> Iterator[str]:
    yield r"\subsection{Agents, users and dialogues}"
    rows: dict[tuple[str, str], None] = {}
    for part in ("agent", "simulator", "critic", "success", "limits"):
        for cell in results.manifest.cells:
            if part in cell.settings:
                rows[part, _options(cell.settings[part])] = None
    yield from _facts(list(rows), "The manifest of this folder has no settings.")


def _data(results: Results) -> Iterator[str]:
    yield r"\subsection{Data and seeds}"
    m = results.manifest
    domains = {
        cell.source_id: _options(cell.settings["domain"])
        for cell in m.cells
        if "domain" in cell.settings
    }
    rows = []
    for source in m.sources:
        words = [
            f"{source.split} split, {many(source.sample, 'case')}",
            domains.get(source.source_id, ""),
            f"fingerprint {source.fingerprint}",
        ]
        rows.append((source.dataset or source.domain, ", ".join(filter(None, words))))
    seeds = f"{', '.join(map(str, m.seeds))}; seeds vary: {m.seed_varies}"
    yield from _facts([*rows, ("seeds", seeds)], "")


def _hardware(results: Results) -> Iterator[str]:
    yield r"\subsection{Hardware and software}"
    m = results.manifest
    engines: dict[str, None] = {}
    for entry in m.engines:
        known = {key: entry[key] for key in ("fingerprint", "gpu", "gpus") if entry.get(key)}
        engines[f"{entry.get('label', '')}{': ' if known else ''}{_options(known)}"] = None
    machine = [words.format(m.host[key]) for key, words in _MACHINE.items() if m.host.get(key)]
    python = {"Python": m.host["python"]} if m.host.get("python") else {}
    versions = [f"{name} {version}" for name, version in sorted((m.versions | python).items())]
    statistics = [f"{name} {metadata.version(name)}" for name in _STATISTICS]
    rows = [
        ("machine of the driver", ", ".join(machine)),
        *(("engine", text) for text in engines),
        ("software of the runs", ", ".join(versions)),
        ("software of tables and statistics", ", ".join(statistics)),
        ("revision of crsweep", m.revision or "unknown"),
        *facts.spent(results),
    ]
    yield from _facts([row for row in rows if row[1]], "")


def _prompts(results: Results) -> Iterator[str]:
    rows = results.query(
        "WITH mine AS (SELECT attempt_id FROM episodes UNION SELECT judging_id FROM judgements), "
        "firsts AS (SELECT c.*, e.cell, row_number() OVER (PARTITION BY c.role, c.step "
        "ORDER BY c.reask, c.draw, coalesce(e.position, 0), c.turn, c.attempt_id) AS place "
        "FROM calls c JOIN mine USING (attempt_id) "
        "LEFT JOIN (SELECT attempt_id, cell, position FROM episodes) e USING (attempt_id)) "
        f"SELECT role, step, cell, prompt, reply FROM firsts WHERE place = 1 "
        f"ORDER BY role, step LIMIT {_MOST_PROMPTS}"
    ).fetchall()
    if not rows:
        return
    yield r"\subsection{Prompts}"
    yield r"The first call of each role and step, as it was sent, and its reply.\par"
    names = facts.labels(results)
    for role, step, cell, prompt, reply in rows:
        where = f" ({names[cell]})" if cell is not None else ""
        yield rf"\paragraph{{{latex_text(f'{role}: {step}{where}')}}}"
        for speaker, text in _messages(prompt):
            yield from _quoted(speaker, text, _PROMPT)
        if reply is not None:
            yield from _quoted("reply", reply, _REPLY)


def _quoted(speaker: str, text: str, most: int) -> Iterator[str]:
    """A text line by line, in typewriter letters that keep its indentation."""
    cut = len(text) - most
    yield r"\begin{quote}\footnotesize\raggedright"
    yield rf"\textit{{{latex_text(speaker)}}}\par\ttfamily"
    for line in text[:most].splitlines():
        indented = len(line) - len(line.lstrip(" "))
        space = rf"\hspace*{{{0.5 * min(indented, 40):g}em}}" if indented else ""
        yield rf"\noindent {space}{_breakable(line.strip())}\par" if line.strip() else r"\smallskip"
    if cut > 0:
        yield rf"\noindent\textrm{{({cut:,} more characters)}}\par"
    yield r"\end{quote}"


def _messages(prompt: str) -> list[tuple[str, str]]:
    try:
        read: Any = json.loads(prompt)
    except ValueError:
        return [("prompt", prompt)]
    if not isinstance(read, list):
        return [("prompt", prompt)]
    return [
        (str(m.get("role", "")), str(m.get("content", "")))
        if isinstance(m, Mapping)
        else ("text to embed", str(m))
        for m in read
    ]


def _table(title: str, found: Sheet) -> Iterator[str]:
    if not found.rows:
        return
    yield rf"\begin{{table*}}[htbp]\centering\footnotesize\caption{{{latex_text(title)}}}"
    yield _known_letters(sheets.latex(found))
    yield r"\end{table*}"


def _facts(rows: Sequence[tuple[str, str]], without: str) -> Iterator[str]:
    if not rows:
        yield rf"{latex_text(without)}\par"
        return
    yield r"\begin{description}\raggedright\sloppy"
    for name, text in rows:
        yield rf"\item[{latex_text(name)}] {_breakable(text)}"
    yield r"\end{description}"


def _options(value: Mapping[str, Any]) -> str:
    """`name(option=value, ...)` without what is unset."""
    given = {key: part for key, part in value.items() if part is not None and key != "name"}
    listed = ", ".join(f"{key}={_plain(part)}" for key, part in given.items())
    name = value.get("name")
    return (f"{name} ({listed})" if listed else str(name)) if name else listed


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _breakable(text: str) -> str:
    """Long words, such as hashes and paths, may break."""
    words: Iterable[str] = re.split(r"( )", text)
    return "".join(
        latex_text(word)
        if len(word) <= 2 * _CHUNK
        else r"\allowbreak{}".join(
            latex_text(word[n : n + _CHUNK]) for n in range(0, len(word), _CHUNK)
        )
        for word in words
    )


def _letter(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    return _known_letters(character)


def _known_letters(text: str) -> str:
    """`text`, with what pdfLaTeX has no letter for written as its number."""
    return "".join(
        c
        if c < "\x7f" or c in _KNOWN or "À" <= c <= "ſ"
        else rf"\textless{{}}U+{ord(c):04X}\textgreater{{}}"
        for c in text
    )
