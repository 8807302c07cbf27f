"""CSI's Figure 4 through the command line: people compare two agents in a sweep without judges, and
then a model does."""

import csv
import io
from pathlib import Path

from tests.runner.annotation.forms import NAME, SALES, Page, leaks, rows_of, secrets_of
from tests.runner.reading import raw
from tests.sweep_files import write_sweep

QUESTIONS = ["questionability", "persuasiveness", "overall"]
PAIRS = "agent=csi,chatcrs_sales"


def filled_in(sheet: Path, to: Path, answer) -> Path:
    """A sheet with `answer(number of the row, question)` in every cell that asks for one."""
    rows = rows_of(sheet)
    for number, row in enumerate(rows):
        row.update({name: answer(number, name) for name in QUESTIONS})
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return to


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_people_and_then_a_model_compare_dialogues_of_two_agents(tmp_path, crsweep):
    out, forms = tmp_path / "out", tmp_path / "forms"
    crsweep("run", write_sweep(tmp_path, **SALES), f"name={NAME}")
    given = ("--cases", 4, "--out", forms)
    wrong = crsweep("annotate", "export", out, "--judge", "proactivness", *given, check=2)
    assert "did you mean 'proactiveness'?" in wrong.stderr
    exporting = ("annotate", "export", out, "--pairs", PAIRS, "--judge", "proactiveness", *given)
    said = crsweep(*exporting).stdout
    assert "4 items from 4 cases" in said
    (form,), (sheet,) = forms.glob("*.html"), forms.glob("*.csv")
    for path in (form, sheet):
        hidden = {*secrets_of(out), "chatcrs", "proactiveness", "synthetic"}
        assert leaks(path.read_text(), hidden) == []
    page = Page(form.read_text())
    asked = [at["data-question"] for tag, at in page.tags if tag == "fieldset"]
    assert asked == QUESTIONS * 4
    opening = raw(out, "turns").query("turn == 0").user_text
    for text in page.items.values():  # whole dialogues: both begin with what the user said first
        assert sum(text.count(words) for words in set(opening)) == 2

    # The first prefers A in the first two items, the second in the first three; ties otherwise.
    for name, most in (("ann", 2), ("bo", 3)):
        file = filled_in(
            sheet, tmp_path / f"{name}.csv", lambda n, _, most=most: "A" if n < most else "tie"
        )
        said = crsweep("annotate", "import", out, file, "--annotator", name).stdout
        assert said.startswith(f"12 new labels from {name}")
        if name == "ann":
            assert "there is nothing to compare" in crsweep("agreement", out, check=2).stderr
    labels = raw(out, "judgements")
    assert set(labels.judge) == {"proactiveness"}
    assert labels.turn.isna().all()
    table = table_of(crsweep("table", out, "--pairs", "--format", "csv").stdout)
    assert [(row["judge"], row["baseline"], row["against"], row["dimension"]) for row in table] == [
        ("people", "csi", "chatcrs_sales", name) for name in QUESTIONS
    ]
    for row in table:  # one of the four is split, one a tie for both
        assert (row["split"], row["ties"], row["pairs"]) == ("1", "2", "4")
        assert int(row["wins"]) + int(row["losses"]) == 2
    agreed = table_of(crsweep("agreement", out, "--format", "csv").stdout)
    assert [(row["judge"], row["dimension"], row["between"], row["and"]) for row in agreed] == [
        ("proactiveness", name, "ann", "bo") for name in QUESTIONS
    ]
    assert {(row["n"], row["equal"]) for row in agreed} == {("4", "0.75")}
    alone = crsweep("agreement", out, "--judge", "proactiveness", "--format", "csv").stdout
    assert table_of(alone) == agreed

    # A model is asked the same questions; its metrics are those of every judge of pairs.
    judges = "[{name: proactiveness, baseline: csi, against: [chatcrs_sales]}]"
    metrics = [f"win_rate@{name}" for name in QUESTIONS]
    overrides = (f"judges={judges}", "roles.judge=rules", f"metrics=[{','.join(metrics)}]")
    crsweep("judge", out, *overrides)
    rows = table_of(crsweep("table", out, "--pairs", "--format", "csv").stdout)
    assert [row["judge"] for row in rows] == ["proactiveness"] * 3 + ["people"] * 3
    by_agent = {
        row["agent"]: row for row in table_of(crsweep("table", out, "--format", "csv").stdout)
    }
    for row in rows[:3]:
        assert (row["pairs"], row["planned"]) == ("4", "4")
        metric = f"win_rate@{row['dimension']}"
        for agent, result in (("csi", "wins"), ("chatcrs_sales", "losses")):
            assert float(by_agent[agent][metric]) == int(row[result]) / 4
    agreed = table_of(crsweep("agreement", out, "--format", "csv").stdout)
    pairs = [(row["between"], row["and"]) for row in agreed if row["dimension"] == "overall"]
    assert pairs == [("judge", "ann"), ("judge", "bo"), ("judge", "majority"), ("ann", "bo")]
    # The words are those that a form in the sweep's own judge would have.
    again = crsweep("annotate", "export", out, "--pairs", PAIRS, *given).stdout
    assert str(form) in again
