"""What the docs say, done."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.core import plugins
from agents.core.prompts import prompt_folder
from simulators.core.judge import JUDGES, RecordedDialogue, RecordedTurn
from simulators.recordings.json_lines import json_lines
from tests.agents.recommenders.data import trained, training_data
from tests.conftest import ROOT
from tests.fakes import FakeModel, make_ask
from tests.runner.reading import raw

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_the_worked_example_of_a_new_agent_runs_unchanged(tmp_path, crsweep):
    page = (ROOT / "docs/add-an-agent.md").read_text()
    blocks: dict[str, str] = {}
    for language, text in BLOCK.findall(page):
        blocks.setdefault(language, text)
    package = tmp_path / "my_lab" / "genre_first"
    (package / "prompts").mkdir(parents=True)
    (tmp_path / "my_lab" / "__init__.py").touch()
    (package / "__init__.py").write_text(blocks["python"])
    (package / "prompts" / "pick.md.j2").write_text(blocks["jinja"])
    sweep = tmp_path / "sweep.yaml"
    out = tmp_path / "out"
    sweep.write_text(blocks["yaml"].replace("results/genre-first", str(out)))
    assert "Recommend 5 games that fit" in crsweep("render", sweep, cwd=tmp_path).stdout
    assert "recommender (ask)" in crsweep("play", sweep, "--cell", "1", cwd=tmp_path).stdout
    done = crsweep("run", sweep, cwd=tmp_path)
    assert "agent my_lab.genre_first (picks=5)" in done.stdout
    turns = raw(out, "turns").merge(raw(out, "episodes"), on="attempt_id")
    mine = turns[turns["axes"].map(lambda a: a["agent"].startswith("my_lab"))]
    assert set(mine[mine.turn == 1].action) == {"ask"}
    assert (mine.shown.map(len) <= 5).all()
    assert (mine.shown.map(len) > 0).any()
    trained = [text for language, text in BLOCK.findall(page) if "class Neighbours" in text]
    (tmp_path / "my_lab" / "neighbours.py").write_text(trained[0])
    only = ["grid.agent=[my_lab.neighbours]", "grid.seed=[0]", f"out={tmp_path / 'other'}"]
    crsweep("run", sweep, *only, cwd=tmp_path)
    turns = raw(tmp_path / "other", "turns")
    for shown in turns[turns.turn > 0].groupby("attempt_id").shown:
        assert len({item for one in shown[1] for item in one}) == sum(map(len, shown[1])) > 0
    run_its_test(page, tmp_path)


def run_its_test(page: str, folder: Path):
    """Runs the test on a page of the plug-in that is in `folder`."""
    [text] = [
        t for language, t in BLOCK.findall(page) if language == "python" and "\ndef test_" in t
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        found: dict[str, Any] = {}
        exec(text, found)
        [test] = [value for name, value in found.items() if name.startswith("test_")]
        test()
    for name in [each for each in sys.modules if each.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_the_worked_example_of_a_new_recommender_is_one(tmp_path, monkeypatch):
    page = (ROOT / "docs/add-a-recommender.md").read_text()
    text = next(text for language, text in BLOCK.findall(page) if language == "python")
    (tmp_path / "my_tools").mkdir()
    (tmp_path / "my_tools" / "recency.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = training_data([[0, 1, 2], [1, 2]], 4)
    recommender = trained({"name": "my_tools.recency", "latest": 3}, data)
    assert recommender.scores([0]).tolist() == [0, 1, 2, 0]


def test_the_worked_example_of_a_new_domain_runs_unchanged(tmp_path, crsweep):
    blocks = BLOCK.findall((ROOT / "docs/add-a-domain.md").read_text())
    texts: dict[str, list[str]] = {}
    for language, text in blocks:
        texts.setdefault(language, []).append(text)
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").touch()
    (tmp_path / "my_lab" / "bookshop.py").write_text(texts["python"][0])
    data = tmp_path / "data"
    data.mkdir()
    for name, text in zip(("books.csv", "sales.csv"), texts["csv"], strict=True):
        (data / name).write_text(text)
    out, sweep = tmp_path / "out", tmp_path / "sweep.yaml"
    text = texts["yaml"][0].replace("results/bookshop", str(out))
    sweep.write_text(text.replace("data/bookshop", str(data)))
    crsweep("run", sweep, cwd=tmp_path)
    assert sorted(raw(out, "episodes").targets.map(list)) == [["b2"], ["b4"]]
    (data / "sales.csv").write_text(texts["csv"][1] + "bo,b9,2024-05-01\n")
    refused = crsweep("plan", sweep, check=2, cwd=tmp_path)
    assert "sales.csv:8: found the book b9, expected one of books.csv" in refused.stderr
    (data / "sales.csv").write_text(texts["csv"][1] + "bo,b2,9 May 2024\n")
    refused = crsweep("plan", sweep, check=2, cwd=tmp_path)
    assert "sales.csv:8: found the day '9 May 2024', expected one such as" in refused.stderr
    (data / "sales.csv").write_text("customer,isbn,day\n")
    refused = crsweep("plan", sweep, check=2, cwd=tmp_path)
    assert "no interaction of 0 is left" in refused.stderr
    (data / "sales.csv").write_text(texts["csv"][1])
    (data / "books.csv").write_text(texts["csv"][0].replace("8.5", "cheap"))
    refused = crsweep("plan", sweep, check=2, cwd=tmp_path)
    assert "books.csv:2: found the price 'cheap', expected a number" in refused.stderr


def test_the_worked_example_of_a_new_judge_is_one(tmp_path, monkeypatch):
    blocks = dict(BLOCK.findall((ROOT / "docs/add-a-judge.md").read_text()))
    package = tmp_path / "my_judges" / "politeness"
    (package / "prompts").mkdir(parents=True)
    (package / "__init__.py").write_text(blocks["python"])
    (package / "prompts" / "rate.md.j2").write_text(blocks["jinja"])
    monkeypatch.syspath_prepend(str(tmp_path))
    cls = plugins.load(JUDGES, "my_judges.politeness", "judge")
    prompts = prompt_folder(plugins.module(JUDGES, "my_judges.politeness", "judge"), None)
    given = iter([{"reason": "Kind.", "politeness": 4}, *["rude"] * 3])
    model = FakeModel(lambda call: next(given))
    turns = [RecordedTurn(n, "Please.", "chat", (), "Go on.", "answer", None) for n in (1, 2)]
    dialogue = RecordedDialogue("film", "Hi.", tuple(turns))
    verdicts = asyncio.run(cls(cls.Options()).judge(dialogue, make_ask(model, prompts)))
    assert [(v.subject.turn, v.value, v.status) for v in verdicts] == [
        (1, 4, "valid"),
        (2, None, "unparsed"),
    ]
    assert "<reply>\nrecommender: Please.\n</reply>" in model.calls[0].messages[0].content


def test_the_example_of_the_import_format_is_read(tmp_path):
    blocks = dict(BLOCK.findall((ROOT / "docs/recordings.md").read_text()))
    path = tmp_path / "d.jsonl"
    path.write_text(" ".join(blocks["json"].split("\n")))
    found = json_lines(path)
    assert found.dialogues["d1"].last_accepted[1].title == "Heat Wave"
    assert [label.turn for label in found.labels] == [1, None]


def test_every_judge_is_documented():
    page = (ROOT / "docs/add-a-judge.md").read_text()
    for name in plugins.names(JUDGES):
        assert f"| `{name}` |" in page, name


def test_every_link_between_pages_leads_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "deploy").rglob("*.md")
    for page in pages:
        for target, section in LINK.findall(page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not section or section in anchors(there), f"{page.name}: {target}#{section}"


def anchors(page: Path) -> set[str]:
    """What a heading is linked by on GitHub."""
    headings = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readmes_sweep_file_is_one(tmp_path, monkeypatch):
    from tests.sweep_files import load

    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    text = next(text for language, text in blocks if language == "yaml")
    path = Path(tmp_path / "x.yaml")
    path.write_text(text)
    assert load(path).header.name == "ml100k"


def test_every_key_of_a_sweep_file_is_documented():
    from sweeps.schema import CellConfig, Header

    page = (ROOT / "docs/sweep-files.md").read_text()
    for key in [*Header.model_fields, *CellConfig.model_fields]:
        assert f"`{key}`" in page, key


def test_every_metric_is_documented():
    page = (ROOT / "docs/results.md").read_text()
    for name in plugins.names("analysis.metrics"):
        assert f"`{name}" in page, name


def test_the_example_of_judging_recordings_runs_unchanged(tmp_path, crsweep):
    page = (ROOT / "docs/recordings.md").read_text()
    blocks = [(language, text) for language, text in BLOCK.findall(page)]
    record = " ".join(next(text for language, text in blocks if language == "json").split())
    sweep = next(text for language, text in blocks if language == "yaml")
    (tmp_path / "dialogues.jsonl").write_text(record + "\n")
    out = tmp_path / "out"
    text = sweep.replace("results/recorded", str(out)).replace(
        "dialogues.jsonl", str(tmp_path / "dialogues.jsonl")
    )
    (tmp_path / "recorded.yaml").write_text(f"{text}run: {{executor: local}}\n")
    crsweep("run", tmp_path / "recorded.yaml")
    imported = crsweep("annotate", "import", out, "--recorded").stdout
    assert "1 new label from aggregate" in imported
    assert "left out, not scored by the judge: overall 1" in imported
    assert "aggregate" in crsweep("agreement", out).stdout
    crsweep("judge", out, "judges=[crsarena,credibility]")
    assert set(raw(out, "judgements").judge) == {"crsarena", "credibility"}
