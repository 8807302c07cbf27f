"""`crsweep annotate`: what it prints."""

from __future__ import annotations

from rich.console import Console

from agents.core.plural import many
from runner.annotation.export import Exported
from runner.annotation.importing import Imported
from runner.annotation.recorded import SkippedLabels
from sweeps.judgements import DECISIONS


def show_exported(found: Exported, cases: int, console: Console) -> None:
    """Prints what was written, and a warning if there are fewer cases than requested."""
    fewest = min(found.cases.values())
    if fewest < cases:
        bought = " with an accepted item" if found.key.judge == DECISIONS else ""
        console.print(
            f"expected {cases:,} complete cases{bought} per domain, found only {fewest:,} in one",
            soft_wrap=True,
        )
    drawn = found.key.drawn
    remark = None if drawn is None else drawn.remark()
    unpriced = found.unpriced
    lines = [
        *(
            [f"left out, with an offered item whose price is unknown: {many(unpriced, 'dialogue')}"]
            if unpriced
            else []
        ),
        *([] if remark is None else [f"! {remark}"]),
        f"{many(len(found.key.items), 'item')} from {many(sum(found.cases.values()), 'case')}",
        f"form: {found.form}",
        "sheet: not written, because it would show all parts at once"
        if found.sheet is None
        else f"sheet: {found.sheet}",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def show_imported(found: Imported, annotator: str, console: Console) -> None:
    """Prints how many labels are new, how many were stored already, and how many are open."""
    text = f"{many(found.new, 'new label')} from {annotator}"
    if found.known:
        text += f", {found.known:,} imported before"
    if found.open:
        text += f"; {many(found.open, 'unanswered question')}"
    console.print(text, markup=False, soft_wrap=True)


def show_skipped(skipped: SkippedLabels, console: Console) -> None:
    """Prints which labels of recorded dialogues were not imported, and why."""
    if skipped.unknown:
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(skipped.unknown.items()))
        console.print(f"left out, not scored by the judge: {names}", markup=False, soft_wrap=True)
    if skipped.unplayed:
        labels = many(skipped.unplayed, "label")
        console.print(
            f"left out, dialogue not in the folder yet: {labels}; `crsweep run` stores them",
            soft_wrap=True,
        )
