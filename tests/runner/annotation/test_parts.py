"""What people see: the parts of a form, and facts."""

import csv

from agents.core.dialogue import Action
from agents.core.items import Item
from agents.core.seeds import Seeds
from analysis.results import Results
from analysis.statistics.agreement import make_agreement
from runner.annotation.importing import import_files
from runner.annotation.judged import _subject_unit
from runner.driver.loading import load_plan_of
from simulators.core.judge import RecordedDialogue, RecordedTurn, Subject
from sweeps.judgements import StoredDialogue
from tests.runner.annotation.forms import CASES, Page, exported
from tests.runner.reading import raw


def test_intentions_are_asked_in_parts_each_with_what_the_evaluator_may_see(sweep, tmp_path):
    given = {"pairs": None, "judge": "intention", "cases": CASES, "where": "agent = 'react'"}
    found = exported(sweep, tmp_path / "form", **given)
    assert found.sheet is None
    assert [path.suffix for path in (tmp_path / "form").iterdir()] == [".html"]
    key, page = found.key, Page(found.form.read_text())
    kinds = [item.kind for item in key.items.values()]
    count = len(kinds) // 3
    assert kinds == ["pre"] * count + ["post"] * count + ["true"] * count
    assert list(page.items) == list(key.items)
    parts = [dict(attrs)["data-part"] for tag, attrs in page.tags if tag == "section"]
    assert parts == ["1"] * count + ["2"] * count + ["3"] * count
    source = load_plan_of(str(sweep), []).sources[0]
    turns = raw(sweep, "turns").set_index(["attempt_id", "turn"]).agent_text
    shown: dict[str, set[str]] = {}
    for code, item in key.items.items():
        columns = item.columns
        catalogued = source.domain.catalogue[columns["item"]]
        said = " ".join(turns[columns["attempt_id"], columns["turn"]].split())
        text = " ".join(page.items[code].split())
        assert catalogued.title in text
        assert (said in text) == (item.kind == "post")
        values = [value for found in catalogued.attributes.values() for value in found]
        described = all(f": {', '.join(v)}" in text for v in catalogued.attributes.values())
        assert described == (item.kind == "true")
        for revealed in (said, catalogued.title, *sorted(values, key=len, reverse=True)):
            text = text.replace(revealed, "")
        shown.setdefault(item.kind, set()).add(text.split(", part")[1])
    assert len(shown["pre"]) == len(shown["post"]) == 1  # nothing else differs
    assert [question.name for question in key.questions] == ["pre", "post", "true"]
    names = [question.name for question in key.questions]
    file = tmp_path / "ann.csv"
    with file.open("w", newline="") as opened:  # as the form saves it
        writer = csv.writer(opened)
        writer.writerow(["export", "item", *names])
        for number, (code, item) in enumerate(key.items.items()):
            answers = [1 + number % 5 if name == item.kind else "-" for name in names]
            writer.writerow([key.name, code, *answers])
    assert import_files(str(sweep), [file], "ann").new == 3 * count
    assert import_files(str(sweep), [file], "ann").known == 3 * count
    rows = make_agreement(Results.open(sweep)).rows
    assert [(row.judge, row.dimension, row.units) for row in rows] == [
        ("intention", name, count) for name in names
    ]
    answers = Results.open(sweep).query(
        "SELECT dimension, value FROM judgements WHERE annotator = 'ann' ORDER BY ALL"
    )
    wanted = [(item.kind, 1.0 + n % 5) for n, item in enumerate(key.items.values())]
    assert answers.fetchall() == sorted(wanted)


def test_people_see_the_facts_of_what_a_persuading_reply_speaks_of():
    """As the judge of credibility does: it shows no item, but argues for those shown last."""
    item = Item("i1", "Alpha", {"genre": ("noir",)})
    said: tuple[tuple[Action, tuple[Item, ...]], ...]
    said = (("recommend", (item,)), ("chat", ()), ("persuade", ()))
    turns = tuple(
        RecordedTurn(number, "words", action, shown, "no", None, None)
        for number, (action, shown) in enumerate(said, start=1)
    )
    dialogue = RecordedDialogue("film", "Hi", turns)
    stored = StoredDialogue("e", "a", "h", 0, "c", Seeds(0, 0, 0), "Hi", ())
    facts = [
        _subject_unit(stored, (0, "c"), dialogue, Subject(turn.number)).facts for turn in turns
    ]
    assert facts == [(item,), (), (item,)]
