"""People label what a sweep has played: the form, the sheet, and what is imported."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agents.core.dialogue import Message
from agents.core.errors import UsageError
from agents.core.items import Item
from analysis.results import Results
from analysis.statistics.agreement import make_agreement
from analysis.statistics.draws import SamplingRecord
from analysis.statistics.pairs import make_pairs, sheet
from runner.annotation.export import Exported, facts, form_of, sheet_of, write_form
from runner.annotation.importing import import_files
from runner.annotation.keys import key_of, read_key
from runner.annotation.questions import find_judge, questions_of
from runner.annotation.units import Block, Unit
from runner.driver.judging import Selection
from runner.driver.loading import load_plan_of
from runner.driver.run import judge
from sweeps.storage.folder import folder_at
from tests.runner.annotation.forms import CASES, Page, exported, leaks, rows_of, secrets_of
from tests.runner.reading import raw


def filled(found: Exported, to: Path, answer, semicolons: bool = False) -> Path:
    """The sheet with answers: `answer(item of the key, number of the row, question)`."""
    rows = rows_of(found.sheet)
    for number, row in enumerate(rows):
        item = found.key.items[row["item"]]
        for question in found.key.asked(item):
            row[question.name] = str(answer(item, number, question))
    with to.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";" if semicolons else ",")
        writer.writeheader()
        writer.writerows(rows)
    return to


def sides_of(found: Exported) -> set[bool]:
    """Whether the first side of its pairs is shown as A, as B, or now one and now the other."""
    return {item.swapped for item in found.key.items.values()}


def prefers(side: str):
    """Always the baseline (`first`), the other (`second`), or neither (`tie`)."""

    def answer(item, number, question):
        first = "B" if item.swapped else "A"
        second = "A" if item.swapped else "B"
        return {"first": first, "second": second, "tie": "tie"}[side]

    return answer


def test_people_see_the_replies_that_the_judge_compared(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form")
    rows = rows_of(found.sheet)
    assert len(rows) == len(found.key.items) == found.cases[0] == 3
    stored = raw(sweep, "judgements").dropna(subset=["other_reply"])
    turns = raw(sweep, "turns").set_index(["attempt_id", "turn"]).agent_text
    page = Page(found.form.read_text())
    assert list(page.items) == [row["item"] for row in rows] == list(found.key.items)
    for row in rows:
        item = found.key.items[row["item"]]
        columns = item.columns
        made = json.loads(columns["other_reply"])["text"]
        assert columns["other_reply"] in set(stored.other_reply)
        owner = columns["attempt_id" if columns["prefix"] == "a" else "other_attempt_id"]
        own = turns[owner, columns["turn"]]
        first, second = (own, made) if columns["prefix"] == "a" else (made, own)
        a, b = (second, first) if item.swapped else (first, second)
        assert row["A"].startswith(f"recommender: {a}")
        assert row["B"].startswith(f"recommender: {b}")
        assert row["Conversation"].startswith("user: ")
        for text in (a, b):
            assert " ".join(text.split()) in " ".join(page.items[row["item"]].split())
        assert {row[question.name] for question in found.key.questions} == {""}


def test_what_is_handed_out_names_no_agent_cell_model_case_or_episode(sweep, tmp_path):
    secrets = secrets_of(sweep)
    assert secrets >= {"moons9", "zero_shot", "react", "zeta9", "theta9"}
    assert secrets >= set(raw(sweep, "episodes").case_id)
    # A check that finds nothing anywhere would find nothing here either.
    assert all(leaks(f"by {secret}, in turn 3", secrets) for secret in secrets)
    judges = ({"pairs": None, "judge": judge} for judge in ("relevance", "intention"))
    for given in ({}, *judges):
        found = exported(sweep, tmp_path / "form", **given)
        written = {path for path in (found.form, found.sheet) if path is not None}
        assert set((tmp_path / "form").iterdir()) == written
        for path in written:
            assert leaks(path.read_text(), {*secrets, "rules", "pairwise", "synthetic"}) == []
        for path in (tmp_path / "form").iterdir():
            path.unlink()
        assert (sweep / "annotations" / f"{found.key.name}.json").exists()


def test_the_sheet_has_the_questions_with_their_possible_answers(sweep, tmp_path):
    for asker, name, text in (
        (None, "overall", "Choose the better one overall. | possible answers: A; tie; B"),
        (
            "relevance",
            "clarity",
            "Rate the clarity of expression. | possible answers: 1 (lowest); ",
        ),
    ):
        pairs = "agent=zero_shot,react" if asker is None else None
        found = exported(sweep, tmp_path / "form", pairs=pairs, judge=asker)
        for row in rows_of(found.sheet):
            lines = row["Questions"].splitlines()
            questions = [question.name for question in found.key.questions]
            assert [line.split(": ", 1)[0] for line in lines] == questions
            assert any(line.startswith(f"{name}: {text}") for line in lines)


def test_facts_begin_with_the_exact_price():
    item = Item("i", "Coat", {"colour": ("red", "blue")}, "Warm.", 12_999.99)
    known = [("price", "12999.99"), ("colour", "red, blue"), ("description", "Warm.")]
    assert facts(item) == known
    assert facts(replace(item, price=None)) == known[1:]


def test_the_form_loads_nothing_and_runs_its_own_script_alone(sweep, tmp_path):
    page = Page(exported(sweep, tmp_path / "form").form.read_text())
    assert [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "a", "form")] == []
    assert [tag for tag, at in page.tags if "src" in at or "href" in at] == []
    (policy,) = (at["content"] for tag, at in page.tags if at.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not [name for _, at in page.tags for name in at if name.startswith("on")]


HOSTILE = (
    "</script></section><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} & =1+1"
)


def hostile_unit() -> Unit:
    item = Item("=1", HOSTILE, {HOSTILE: (HOSTILE,)}, HOSTILE, 1.5)
    said = [Message("user", f"=HYPERLINK({HOSTILE})"), Message("recommender", HOSTILE, (item,))]
    blocks = [Block("Conversation", said), Block("A", said[1:]), Block("B", said[1:])]
    return Unit({"episode_id": "e"}, 0, "case", False, "pair", "movie", blocks, [item], HOSTILE)


def test_no_line_of_a_message_passes_for_one_of_the_other_side_in_the_sheet(sweep):
    plan = load_plan_of(str(sweep), [])
    said = [Message("recommender", "Nice.\nuser: I buy it"), Message("user", "No.")]
    unit = Unit({"episode_id": "e"}, 0, "case", False, "pair", "movie", [Block("A", said)], [])
    asked = questions_of(find_judge(plan, None, "pairwise"))
    key = key_of("pairwise", asked, [unit], SamplingRecord(0, 1, None, True, 1, 1))
    [row] = csv.DictReader(io.StringIO(sheet_of(key, [unit]).removeprefix("\ufeff")))
    lines = row["A"].splitlines()
    assert [line for line in lines if line.startswith("user:")] == ["user: No."]


def test_text_is_escaped_in_the_form_and_no_formula_in_the_sheet(sweep):
    plan = load_plan_of(str(sweep), [])
    found = find_judge(plan, None, "pairwise")
    unit = hostile_unit()
    key = key_of("pairwise", questions_of(found), [unit], SamplingRecord(0, 1, None, True, 1, 1))
    page = Page(form_of(key, [unit]))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [tag for tag, _ in page.tags].count("section") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.items[next(iter(key.items))].count(HOSTILE) >= 6
    (row,) = csv.DictReader(io.StringIO(sheet_of(key, [unit]).removeprefix("\ufeff"), newline=""))
    assert not [cell for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]
    assert HOSTILE in row["A"]


def test_labels_are_judgements_with_an_annotator_and_come_in_once(sweep, tmp_path):
    by_seed = (exported(sweep, tmp_path / f"form{seed}", seed=seed) for seed in range(20))
    found = next(each for each in by_seed if len(sides_of(each)) == 2)
    file = filled(found, tmp_path / "ann.csv", prefers("first"))
    assert import_files(str(sweep), [file], "ann") == (12, 0, 0)
    before = raw(sweep, "judgements")
    assert import_files(str(sweep), [file], "ann") == (0, 12, 0)
    assert len(raw(sweep, "judgements")) == len(before)
    rows = Results.open(sweep).query("SELECT * FROM judgements WHERE annotator = 'ann'").df()
    assert set(rows.value) == {1.0}  # the first side, whichever was shown as A
    assert set(rows.judge) == {"pairwise"}
    assert rows.judgement_id.is_unique
    # A second person who uses semicolons, and a judge that still has nothing left to do.
    other = filled(found, tmp_path / "bo.csv", prefers("second"), semicolons=True)
    assert import_files(str(sweep), [other], "bo").new == 12
    console = Console(file=io.StringIO(), width=200)
    result = judge(
        str(sweep), [], selection=Selection(), accept_source_change=False, console=console
    )
    assert result.left == 0
    assert len(raw(sweep, "judgements")) == len(before) + 12


def test_the_table_of_pairs_has_the_majority_of_people(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form", cases=CASES)
    votes = [  # cases x annotators: won, won by two, lost by two, split
        ("first", "first", "first"),
        ("first", "tie", "first"),
        ("second", "second", "first"),
        ("first", "tie", "second"),
    ]
    for place, annotator in enumerate(("ann", "bo", "cy")):
        file = filled(
            found,
            tmp_path / f"{annotator}.csv",
            lambda item, number, q, place=place: prefers(votes[number][place])(item, number, q),
        )
        import_files(str(sweep), [file], annotator)
    results = Results.open(sweep)
    table = make_pairs(results)
    rows = {row.dimension: row for row in table.rows if row.judge == "people"}
    assert list(rows) == ["persuasiveness", "trustworthiness", "groundedness", "overall"]
    row = rows["overall"]
    assert (row.baseline, row.against) == ("zero_shot", "react")
    assert (row.wins, row.losses, row.ties, row.split) == (2, 1, 1, 1)
    assert (row.pairs, row.planned, row.biased) == (4, None, None)
    assert [v.mean for v in (row.win, row.loss, row.tie)] == [50, 25, 25]  # of both seeds' pairs
    assert row.win.std is None
    assert row.p == 1.0  # two cases against one
    printed = sheet(table)
    assert "split" in printed.value_heads
    assert any("people: 3 annotators (16 with 3 votes)" in note for note in table.notes)
    judged = next(row for row in table.rows if row.judge == "pairwise")
    assert (judged.split, judged.planned) == (None, 8)
    agreement = make_agreement(results)
    (majority,) = (r for r in agreement.rows if r.second == "majority" and r.dimension == "overall")
    assert (majority.units, majority.split) == (3, 1)


def test_turns_are_labelled_on_the_scales_of_a_judge(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form", pairs=None, judge="relevance", cases=2)
    turns = raw(sweep, "turns")
    cells = Results.open(sweep).query("SELECT count(*) FROM plan_cells").fetchall()[0][0]
    chosen = {item.columns["attempt_id"] for item in found.key.items.values()}
    assert len(chosen) == 2 * cells
    assert len(found.key.items) == (turns.attempt_id.isin(chosen) & (turns.turn > 0)).sum()
    file = filled(found, tmp_path / "ann.csv", lambda item, number, question: 1 + number % 5)
    count = 3 * len(found.key.items)
    assert import_files(str(sweep), [file], "ann").new == count
    table = make_agreement(Results.open(sweep))
    assert [(r.judge, r.dimension, r.second) for r in table.rows] == [
        ("relevance", name, "ann") for name in ("clarity", "sufficiency", "alignment")
    ]
    assert {row.units for row in table.rows} == {len(found.key.items)}


def test_whole_dialogues_are_compared_where_no_judge_compares_pairs(sweep, tmp_path):
    plan = load_plan_of(str(sweep), ["judges=[relevance]"])
    given = {"judge": None, "where": None, "cases": 2, "seed": 3, "out": tmp_path / "form"}
    found = write_form(plan, pairs="agent=react,zero_shot", **given)
    assert found.key.judge == "pairwise"
    assert {item.columns["other_reply"] for item in found.key.items.values()} == {None}
    file = filled(found, tmp_path / "ann.csv", prefers("second"))
    assert import_files(str(sweep), [file], "ann").new == 8
    people = [row for row in make_pairs(Results.open(sweep)).rows if row.judge == "people"]
    assert {(row.baseline, row.against, row.losses) for row in people} == {
        ("react", "zero_shot", 2)
    }


def test_a_seed_decides_all_and_a_larger_sample_begins_with_the_smaller(sweep, tmp_path):
    def cases(found):
        return {item.columns["episode_id"] for item in found.key.items.values()}

    found = exported(sweep, tmp_path / "a")
    again = exported(sweep, tmp_path / "b")
    assert found.key == again.key
    assert found.form.read_text() == again.form.read_text()
    assert cases(exported(sweep, tmp_path / "a", cases=2)) < cases(found)
    other = exported(sweep, tmp_path / "a", seed=1)
    assert other.key.name != found.key.name
    assert found.sheet is not None
    found.sheet.write_text("filled in")
    with pytest.raises(UsageError, match="exists and differs, perhaps with answers"):
        exported(sweep, tmp_path / "a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pairs": "agent"}, "expected AXIS=BASELINE,OPPONENT"),
        ({"pairs": "agnt=zero_shot,react"}, "the grid has no axis 'agnt'; did you mean 'agent'"),
        ({"pairs": "agent=zero_shot,reakt"}, "agent has no value 'reakt'; did you mean 'react'"),
        ({"pairs": "agent=react,zero_shot"}, "no judge compares these .*agent=zero_shot,react"),
        ({"judge": "relevence"}, "no judge 'relevence'; did you mean 'relevance'"),
        (
            {"judge": "proactivness"},
            "no judge 'proactivness'; did you mean 'proactiveness'.*"
            "known: relevance, intention, pairwise; with --pairs also proactiveness",
        ),
        (
            {"judge": "credibility"},
            "no judge 'credibility' .*known: relevance, intention, pairwise; with --pairs also",
        ),
        ({"judge": "proactiveness", "pairs": None}, "proactiveness compares pairs; say which"),
        ({"judge": "my_lab.nothing"}, "no judge module 'my_lab.nothing' can be imported"),
        ({"judge": "relevance"}, "the judge relevance does not compare pairs"),
        ({"pairs": None}, "name the judge whose questions people answer: --judge relevance or"),
        ({"where": "success AND NOT success"}, "has nothing to label"),
        ({"where": "sucess"}, "sucess"),
    ],
)
def test_what_cannot_be_exported_is_refused(sweep, tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        exported(sweep, tmp_path / "form", **given)
    assert not (tmp_path / "form").exists()
    assert not (sweep / "annotations").exists()


def edit(change):
    def edited(text: str) -> str:
        rows = list(csv.reader(io.StringIO(text)))
        change(rows)
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        return out.getvalue()

    return edited


def put(row: int, column: int, value: str):
    def change(rows):
        rows[row][column] = value

    return edit(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "an empty file"),
        (lambda text: "a,b\n1,2\n", "the columns export and item; found a, b"),
        (put(1, 0, "0123456789ab"), r"ann.csv:2: .* has no export '0123456789ab'"),
        (put(1, 0, "../manifest"), "has no export '../manifest'"),
        (put(2, 1, "nothing"), "has no item 'nothing'"),
        (put(1, -1, "C"), "overall: found 'C', expected one of A, tie, B"),
        (put(1, -1, "6"), "overall: found '6'"),
        (edit(lambda rows: rows.append(rows[1])), "is listed twice, first in .*ann.csv:2"),
        (put(0, -1, "overal"), "there is no column 'overall'; did you mean 'overal'"),
        (edit(lambda rows: rows[2].pop()), "expected 6 cells"),
        (lambda text: text + '"', "not CSV"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_written(sweep, tmp_path, change, message):
    found = exported(sweep, tmp_path / "form")
    names = [question.name for question in found.key.questions]
    rows = [["export", "item", *names]]
    rows += [[found.key.name, code, *["A"] * len(names)] for code in found.key.items]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    good, bad = tmp_path / "good.csv", tmp_path / "ann.csv"
    good.write_text(out.getvalue())
    bad.write_text(change(out.getvalue()))
    before = len(raw(sweep, "judgements"))
    with pytest.raises(UsageError, match=message):
        import_files(str(sweep), [good, bad], "ann")
    assert len(raw(sweep, "judgements")) == before


def test_another_answer_of_one_person_and_names_that_cannot_be_are_refused(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form")
    file = filled(found, tmp_path / "ann.csv", prefers("first"))
    import_files(str(sweep), [file], "ann")
    changed = filled(found, tmp_path / "again.csv", prefers("tie"))
    with pytest.raises(UsageError, match=r"again\.csv:.* ann has answered this with another"):
        import_files(str(sweep), [changed], "ann")
    for name in ("", "judge", "Majority", "a b", "../x"):
        with pytest.raises(UsageError, match="--annotator"):
            import_files(str(sweep), [file], name)
    with pytest.raises(UsageError, match=r"no.csv: cannot be read"):
        import_files(str(sweep), [tmp_path / "no.csv"], "ann")


def test_open_questions_are_counted_and_can_be_answered_later(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form")
    some = filled(
        found, tmp_path / "some.csv", lambda item, number, question: "A" if number else ""
    )
    assert import_files(str(sweep), [some], "ann") == (8, 0, 4)
    whole = filled(found, tmp_path / "all.csv", lambda item, number, question: "a")
    assert import_files(str(sweep), [whole], "ann") == (4, 8, 0)


def test_a_key_that_is_damaged_is_named(sweep, tmp_path):
    found = exported(sweep, tmp_path / "form")
    path = sweep / "annotations" / f"{found.key.name}.json"
    assert read_key(folder_at(sweep), found.key.name, "here") == found.key
    path.write_text("{}")
    with pytest.raises(Exception, match=f"{found.key.name}.json is damaged"):
        read_key(folder_at(sweep), found.key.name, "here")
