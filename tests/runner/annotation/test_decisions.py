"""CSI's Figure 6: people decide where the simulated user accepted an item."""

import csv
import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from agents.core.errors import UsageError
from agents.core.items import Catalogue
from runner.annotation.export import Exported, write_form
from runner.annotation.importing import import_files
from runner.annotation.keys import read_key
from runner.annotation.units import Chooser
from runner.commands.annotation import show_exported
from runner.driver.loading import load_plan_of
from sweeps.storage.folder import folder_at
from tests.runner.annotation.forms import SALES, Page, leaks, play, rows_of, secrets_of
from tests.runner.reading import raw

CASES = 8
SIMULATED = {True: "accept persuasion", False: "accept recommendation"}


@pytest.fixture(scope="module")
def sold(tmp_path_factory) -> Path:
    """Dialogues of two sales agents, with purchases within and above the budget."""
    limits = {"max_turns": 8, "shown_items": 3}
    sales = {**SALES, "cases": {"sample": CASES}, "limits": limits}
    return play(tmp_path_factory.mktemp("sold"), sales)


@pytest.fixture
def sweep(sold, tmp_path) -> Path:
    return Path(shutil.copytree(sold, tmp_path / "out"))


def decided(sweep: Path, out: Path, **changes) -> Exported:
    given = {"pairs": None, "judge": None, "where": None, "cases": CASES, "seed": 0}
    given |= {"decisions": True, "out": out}
    return write_form(load_plan_of(str(sweep), []), **{**given, **changes})


def purchases(sweep: Path) -> pd.DataFrame:
    turns = raw(sweep, "turns")
    bought = turns[turns.user_decision == "accept"].set_index("attempt_id")
    assert bought.index.is_unique
    over = bought.user_extra.map(lambda extra: json.loads(extra)["over_budget"])
    return bought.assign(over=over)


def answered(rows: list[dict[str, str]], to: Path, answer) -> Path:
    for row in rows:
        row["decision"] = answer(row)
    with to.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return to


def test_people_see_what_the_user_had_seen_when_it_accepted(sweep, tmp_path):
    found = decided(sweep, tmp_path / "forms")
    bought, turns = purchases(sweep), raw(sweep, "turns")
    catalogue = load_plan_of(str(sweep), []).sources[0].domain.catalogue
    rows = {row["item"]: row for row in rows_of(found.sheet)}
    assert list(rows) == list(found.key.items)
    assert len(rows) == len(bought) > CASES
    page = Page(found.form.read_text())
    for code, item in found.key.items.items():
        attempt, last = item.columns["attempt_id"], item.columns["turn"]
        own = turns[turns.attempt_id == attempt].sort_values("turn")
        assert last == bought.turn[attempt] == own.turn.max()
        said = [own.user_text.iloc[0]]
        for turn in own[own.turn > 0].itertuples():
            said += [turn.agent_text, turn.user_text]
        words, acceptance = rows[code]["Conversation"], said.pop()
        lines = [
            line for line in words.splitlines() if line.startswith(("user: ", "recommender: "))
        ]
        for line, text in zip(lines, said, strict=True):
            assert line.split(": ", 1)[1].startswith(text.splitlines()[0])
            assert " ".join(text.split()) in " ".join(words.split())
        assert lines[-1].startswith("recommender: ")
        text = " ".join(page.items[code].split())
        assert acceptance in said or acceptance not in text
        offered = {name for shown in own.shown for name in shown}
        facts = rows[code]["Facts"].splitlines()
        assert {line.split(" | ")[0] for line in facts} == {
            f"item: {catalogue[name].title}" for name in offered
        }
        assert all(" | price: " in line for line in facts)
        knew = json.loads(own.user_extra.iloc[0])["knew"]
        low, high = knew["budget"]
        profile = rows[code]["Profile"].splitlines()
        assert f"Your expected price range: ${low:.2f} to ${high:.2f}" in profile
        assert knew["facts"] == [f"category: {profile[3].removeprefix('Your category path: ')}"]
        assert all(" ".join(line.split()) in text for line in profile)


def test_the_form_asks_for_one_of_three_labels_and_names_no_agent(sweep, tmp_path):
    found = decided(sweep, tmp_path / "forms")
    page = Page(found.form.read_text())
    radios = [at for tag, at in page.tags if tag == "input" and at.get("type") == "radio"]
    labels = ["accept recommendation", "accept persuasion", "reject"]
    assert Counter(at["value"] for at in radios) == dict.fromkeys(labels, len(found.key.items))
    assert [at["data-key"] for at in radios[:3]] == ["1", "2", "3"]
    (asked,) = {row["Questions"] for row in rows_of(found.sheet)}
    assert asked == (
        "decision: You are the person in the profile. Choose what you do after the recommender's "
        "last message. | possible answers: accept recommendation (buy an item within your price "
        "range, or below it); accept persuasion (buy an item above your price range); reject (buy "
        "none of them now)"
    )
    secrets = secrets_of(sweep)
    assert secrets >= {"moons9", "csi", "chatcrs_sales", "rules", *raw(sweep, "episodes").case_id}
    for path in (found.form, found.sheet):
        assert path is not None
        hidden = {*secrets, "chatcrs", "csuser", "synthetic", "user_decision"}
        assert leaks(path.read_text(), hidden) == []
    assert read_key(folder_at(sweep), found.key.name, "here") == found.key


def test_through_the_command_line_agreement_is_of_what_was_decided(sweep, tmp_path, crsweep):
    forms = tmp_path / "forms"
    said = crsweep("annotate", "export", sweep, "--decisions", "--cases", CASES, "--out", forms)
    bought = purchases(sweep)
    assert set(bought.over) == {True, False}
    episodes = raw(sweep, "episodes").set_index("attempt_id")
    cases = episodes.case_id[bought.index].nunique()
    assert f"{len(bought)} items from {cases} cases" in said.stdout
    few = f"expected {CASES} complete cases with an accepted item per domain, found only {cases} in"
    assert (few in said.stdout) == (cases < CASES)
    (sheet,) = forms.glob("*.csv")
    key = read_key(folder_at(sweep), sheet.stem, "here")

    def simulated(row) -> str:
        return SIMULATED[bought.over[key.items[row["item"]].columns["attempt_id"]]]

    # One decides as the user did; the other rejects what is above the budget.
    people = {
        "ann": simulated,
        "bo": lambda row: simulated(row).replace("accept persuasion", "reject"),
    }
    for name, answer in people.items():
        file = answered(rows_of(sheet), tmp_path / f"{name}.csv", answer)
        done = crsweep("annotate", "import", sweep, file, "--annotator", name)
        assert done.stdout.startswith(f"{len(bought)} new labels from {name}")
        done = crsweep("annotate", "import", sweep, file, "--annotator", name)
        assert f"{len(bought)} imported before" in done.stdout
    stored = raw(sweep, "judgements")
    assert set(stored.judge) == {"user_decision"}
    assert set(stored.dimension) == {"decision"}
    assert set(stored[stored.annotator == "bo"].value) == {0, 1}
    printed = crsweep("agreement", sweep, "--format", "csv").stdout
    found = {
        (row["dimension"], row["between"], row["and"]): row
        for row in csv.DictReader(io.StringIO(printed))
    }
    within = (~bought.over.astype(bool)).mean()
    for dimension in ("decision", "sr", "swr"):
        row = found[dimension, "simulator", "ann"]
        assert (row["n"], row["equal"]) == (str(len(bought)), "1.0")
        for raters in (("simulator", "bo"), ("ann", "bo")):
            assert float(found[dimension, *raters]["equal"]) == pytest.approx(within)
    assert found["sr", "simulator", "ann"]["kappa"] == "undefined"
    assert float(found["decision", "simulator", "ann"]["kappa"]) == 1
    assert int(found["decision", "simulator", "majority"]["split"]) == bought.over.sum()

    # A dialogue that has other words now keeps its labels, but they are not used.
    change_words(sweep, next(iter(key.items.values())).columns["episode_id"])
    printed = crsweep("agreement", sweep, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert {row["n"] for row in rows if row["and"] != "majority"} == {str(len(bought) - 1)}


def change_words(sweep: Path, episode: str) -> None:
    """As if the labels of `episode` were about other words than the stored ones."""
    for part in (sweep / "judgements").glob("*.parquet"):
        table = pq.read_table(part)
        hashes = [
            "0" * 32 if row["episode_id"] == episode else row["transcript_hash"]
            for row in table.to_pylist()
        ]
        place = table.schema.get_field_index("transcript_hash")
        column = pa.array(hashes, table.schema.field(place).type)
        pq.write_table(table.set_column(place, table.schema.field(place), column), part)


def test_a_seed_draws_the_cases_and_a_condition_the_dialogues(sweep, tmp_path):
    def episodes(**changes) -> set[str]:
        out = tmp_path / f"forms{len(list(tmp_path.iterdir()))}"
        found = decided(sweep, out, **changes)
        return {item.columns["episode_id"] for item in found.key.items.values()}

    few = episodes(cases=2)
    assert few < episodes(cases=4) < episodes()
    assert few == episodes(cases=2)
    assert episodes(cases=2, seed=1) != few
    own = raw(sweep, "episodes").set_index("episode_id")["axes"].map(dict)
    assert {own[e]["agent"] for e in episodes(where="agent = 'csi'")} == {"csi"}


def test_dialogues_with_an_unknown_price_are_left_out_and_counted(sweep, tmp_path, monkeypatch):
    plain = Chooser._catalogue
    bought = purchases(sweep)
    unpriced = bought.accepted_item.iloc[0]

    def catalogue(self, cell: int) -> Catalogue:
        found = plain(self, cell)
        items = [replace(i, price=None) if i.id == unpriced else i for i in found.items]
        return Catalogue(items, noun=found.noun)

    monkeypatch.setattr(Chooser, "_catalogue", catalogue)
    turns = raw(sweep, "turns")
    offered = turns[turns.shown.map(lambda shown: unpriced in shown)].attempt_id
    out = set(offered) & set(bought.index)
    found = decided(sweep, tmp_path / "forms")
    assert found.unpriced == len(out) > 0
    kept = {item.columns["attempt_id"] for item in found.key.items.values()}
    assert kept == set(bought.index) - out
    console = Console(file=io.StringIO(), width=200)
    show_exported(found, 1, console)
    lines = console.file.getvalue().splitlines()
    dialogues = "1 dialogue" if len(out) == 1 else f"{len(out)} dialogues"
    assert f"left out, with an offered item whose price is unknown: {dialogues}" in lines
    where = f"attempt_id IN ({', '.join(repr(attempt) for attempt in sorted(out))})"
    with pytest.raises(UsageError, match="in each of them the price of an offered item is unknown"):
        decided(sweep, tmp_path / "forms", where=where)


def test_what_has_no_decisions_to_label_is_refused(sweep, played, tmp_path):
    with pytest.raises(UsageError, match=r"profile and the budget .* target_item has none"):
        decided(played, tmp_path / "forms")
    for given in ({"judge": "relevance"}, {"pairs": "agent=csi,chatcrs_sales"}):
        with pytest.raises(UsageError, match="leave out --pairs and --judge"):
            decided(sweep, tmp_path / "forms", **given)
    with pytest.raises(UsageError, match="in none of its finished dialogues did the user accept"):
        decided(sweep, tmp_path / "forms", where="NOT success")
    found = decided(sweep, tmp_path / "forms")
    file = answered(rows_of(found.sheet), tmp_path / "ann.csv", lambda row: "accept")
    with pytest.raises(UsageError, match="found 'accept', expected one of accept recommendation, "):
        import_files(str(sweep), [file], "ann")
    file = answered(rows_of(found.sheet), tmp_path / "ann.csv", lambda row: "reject")
    with pytest.raises(UsageError, match="--annotator 'simulator'"):
        import_files(str(sweep), [file], "simulator")
