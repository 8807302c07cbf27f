"""`crsweep annotate export`: a form and a sheet for people, and the key that stays here."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from agents.core.dialogue import Message
from agents.core.errors import UsageError
from agents.core.items import Item
from analysis.html import templates_in
from analysis.results import Results
from analysis.statistics.draws import SamplingRecord
from analysis.transcripts import Transcripts
from runner.annotation.decisions import QUESTION, DecisionChooser
from runner.annotation.judged import PairChooser, SubjectChooser
from runner.annotation.keys import Key, key_of, write_key
from runner.annotation.questions import LabelQuestion, find_judge, questions_of
from runner.annotation.units import Chooser, Unit
from sweeps.judgements import DECISION, DECISION_VALUES, DECISIONS
from sweeps.plan import Plan

_HERE = Path(__file__).parent
_PROFILE = "Profile"
CHOICES = ("A", "tie", "B")
_DECISIONS_IN_WORDS = {
    "accept recommendation": "buy an item within your price range, or below it",
    "accept persuasion": "buy an item above your price range",
    "reject": "buy none of them now",
}


class Exported(NamedTuple):
    """The files that were written."""

    key: Key
    form: Path
    sheet: Path | None
    """None if the items are in parts, which a sheet would reveal all at once."""
    cases: Mapping[int, int]
    """Maps each of the plan's sources to the number of its cases that were chosen."""
    unpriced: int = 0
    """Dialogues that were left out because the price of an offered item is unknown."""


def write_form(
    plan: Plan,
    *,
    pairs: str | None,
    judge: str | None,
    where: str | None,
    cases: int,
    seed: int,
    out: Path,
    decisions: bool = False,
) -> Exported:
    """Writes `<export>.html` and `<export>.csv` into `out`, and the key into the sweep's folder.

    With `decisions`, people decide where the simulated user accepted an item; otherwise they answer
    the questions of a judge. Raises UsageError, for example if files with these names exist and
    differ: a person may have filled them in.
    """
    if decisions and (pairs is not None or judge is not None):
        raise UsageError("--decisions asks a question of its own; leave out --pairs and --judge")
    results = Results.open(plan.loaded.out)
    transcripts = Transcripts(results, where)
    drawn = (plan, results, transcripts, cases, seed)
    unpriced = 0
    chooser: Chooser
    if decisions:
        asks, questions = DECISIONS, [QUESTION]
        chooser = deciding = DecisionChooser(*drawn)
        unpriced = deciding.unpriced
    else:
        found = find_judge(plan, pairs, judge)
        asks, questions = found.ref.name, questions_of(found)
        choosing = SubjectChooser if found.pairs is None else PairChooser
        chooser = choosing(*drawn, found)
    units = chooser.units()
    complete, planned = chooser.pool()
    whole = where is None or _whole_cells(transcripts, Transcripts(results))
    key = key_of(
        asks, questions, units, SamplingRecord(seed, cases, where, whole, complete, planned)
    )
    form = out / f"{key.name}.html"
    _write(form, form_of(key, units))
    sheet = None
    if not any(unit.part for unit in units):
        sheet = out / f"{key.name}.csv"
        _write(sheet, sheet_of(key, units))
    write_key(plan.loaded.out, key)
    chosen = {(unit.source, unit.case_id) for unit in units}
    return Exported(key, form, sheet, Counter(source for source, _ in chosen), unpriced)


def _whole_cells(chosen: Transcripts, finished: Transcripts) -> bool:
    """Whether `chosen` has all or none of the finished dialogues of each cell and seed."""
    some, every = (
        Counter((cell, seeds) for cell, _, seeds in transcripts.places)
        for transcripts in (chosen, finished)
    )
    return all(every[group] == count for group, count in some.items())


def form_of(key: Key, units: Sequence[Unit]) -> str:
    """The form: one HTML page that neither loads nor sends anything."""
    script = (_HERE / "form.js").read_text(encoding="utf-8")
    style = (_HERE / "form.css").read_text(encoding="utf-8")
    return (
        templates_in(_HERE)
        .get_template("form.html.j2")
        .render(
            key=key,
            items=list(zip(key.items, units, strict=True)),
            questions_of={item.kind: key.asked(item) for item in key.items.values()},
            answers_to=answers_to,
            facts=facts,
            # The page runs only this script, whatever a dialogue contains.
            script=Markup(script),
            style=Markup(style),
            script_hash=_hash(script),
            style_hash=_hash(style),
        )
    )


def sheet_of(key: Key, units: Sequence[Unit]) -> str:
    """The same items for a spreadsheet, with empty columns for the answers."""
    headings = list(dict.fromkeys(block.heading for unit in units for block in unit.blocks))
    if any(unit.profile for unit in units):
        headings.insert(0, _PROFILE)
    names = list(dict.fromkeys(question.name for question in key.questions))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["export", "item", *headings, "Facts", "Questions", *names])
    for (code, item), unit in zip(key.items.items(), units, strict=True):
        texts = {block.heading: _words(block.messages) for block in unit.blocks}
        texts[_PROFILE] = "\n".join(unit.profile)
        described = "\n".join(_facts_line(one) for one in unit.facts)
        read = [texts.get(heading, "") for heading in headings]
        asked = {question.name: question for question in key.asked(item)}
        questions = "\n".join(map(_question_line, asked.values()))
        answers = ["" if name in asked else "-" for name in names]
        writer.writerow([key.name, code, *read, described, questions, *answers])
    # Without the byte order mark, spreadsheets guess another encoding.
    return "\ufeff" + out.getvalue()


def choices(question: LabelQuestion) -> list[str]:
    """The possible answers to a question, as they are written in a file."""
    if question.kind == "pair":
        return list(CHOICES)
    if question.kind == DECISION:
        return list(DECISION_VALUES)
    return [str(value) for value in range(question.low, question.high + 1)]


class PossibleAnswer(NamedTuple):
    """A possible answer in a form."""

    choice: str
    shown: str
    key: str
    """The key of the keyboard that chooses it."""


def answers_to(question: LabelQuestion) -> list[PossibleAnswer]:
    """The possible answers to a question, as a form shows them."""
    if question.kind == "pair":
        return [PossibleAnswer(each, each, each[0].lower()) for each in choices(question)]
    if question.kind == DECISION:
        return [
            PossibleAnswer(choice, f"{number}: {explained}", str(number))
            for number, (choice, explained) in enumerate(_explained(question).items(), start=1)
        ]
    return [PossibleAnswer(*each, each[0]) for each in _explained(question).items()]


def _explained(question: LabelQuestion) -> dict[str, str]:
    """Each possible answer, and the same with what it means if that is not plain."""
    found = choices(question)
    notes: Mapping[str, str] = {}
    if question.kind == DECISION:
        notes = _DECISIONS_IN_WORDS
    elif question.kind != "pair":
        notes = {found[0]: "lowest", found[-1]: "highest"}
    return {each: f"{each} ({notes[each]})" if each in notes else each for each in found}


def _question_line(question: LabelQuestion) -> str:
    answers = "; ".join(_explained(question).values())
    return f"{question.name}: {question.text} | possible answers: {answers}"


def facts(item: Item) -> list[tuple[str, str]]:
    """Everything that the catalogue knows about an item besides its title."""
    found = []
    if item.price is not None:
        # More than the six digits of :g, which would round 12999.99.
        found.append(("price", f"{item.price:.12g}"))
    found += [(name, ", ".join(values)) for name, values in item.attributes.items()]
    if item.description:
        found.append(("description", item.description))
    return found


def _facts_line(item: Item) -> str:
    known = "; ".join(f"{name}: {value}" for name, value in facts(item))
    # Prefixed, because a spreadsheet may execute a cell that begins with =.
    return f"item: {item.title}" + (f" | {known}" if known else "")


def _words(messages: Sequence[Message]) -> str:
    lines = []
    for message in messages:
        shown = "; ".join(item.title for item in message.shown)
        # Indented, or a line of a message that begins with "user:" could pass for the user's.
        text = "\n    ".join(message.text.splitlines())
        lines.append(f"{message.speaker}: {text}" + (f" (shown: {shown})" if shown else ""))
    return "\n".join(lines)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _write(path: Path, text: str) -> None:
    data = text.encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() != data:
            raise UsageError(
                f"{path} exists and differs, perhaps with answers filled in; give another --out"
            )
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
