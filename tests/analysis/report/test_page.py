"""The report as a page: complete, self-contained, and safe with any text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from agents.core.errors import UsageError
from analysis.report.defined import defined
from analysis.report.page import make, page
from analysis.results import Results
from sweeps.schema import Header
from tests.analysis.builder import CALL, TURN, Built, Cell, grid_of

HOSTILE = "<script>alert(1)</script><img src=//x.example/y onerror=alert(2)>\"'&--> ]]> \u202eabc"


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_data(self, data):
        self.words += data


def report(folder, header: Header | None = None, dialogues=1) -> Reader:
    results = Results.open(folder)
    wanted = defined(results, header)
    return Reader(page(results, wanted, make(results, wanted), dialogues=dialogues, source="src"))


ONE = {"figures": {"line": {"kind": "seeds"}}}
"""Of most tests: figures take most of the time."""


def sweep(folder, word="b", **changes):
    config = ONE | changes.pop("config", {})
    settings = {"agent": {"name": word}, "models": {"agent": {"backend": "rules"}}}
    cells = [
        Cell(f"{n}", {"agent": axis}, settings={**settings, "n": n})
        for n, axis in enumerate(("a", word))
    ]
    built = Built(cells, case_ids=[word, "u1", "u2"])
    for n, cell in enumerate(cells):
        for case_id in built.case_ids:
            for seed in built.seeds:
                won = 2 if (seed + n) % 2 else None
                turn = {**TURN, "agent_text": word, "user_text": word, "shown": ["i0", word]}
                built.episode(
                    cell, case_id, seed, success_turn=won, turns=[turn], calls=[dict(CALL)],
                    targets=["i0"],
                )  # fmt: skip
    built.failed(cells[1], "u1", 0, "agent", attempt=-1, error=word, ended=0.0)
    return built.write(folder, config=config, **changes)


def test_a_report_has_all_its_sections(tmp_path):
    found = report(sweep(tmp_path, config={"question": "Does b help?", "figures": {}}))
    for words in ("Does b help?", "18 of 18 planned", "sr@5", "No episode failed", "decide",
                  "models.agent.backend", "they vary: sampling", "success at turn 2",
                  "no success (max turns)", "i0 (target)"):  # fmt: skip
        assert words in found.words
    assert {"question", "results", "figures", "cost", "dialogues"} <= set(found.ids)
    assert found.tags.count("svg") == 3  # the usual figures
    assert len(found.ids) == len(set(found.ids))  # also of figures of one page
    links = {v[1:] for k, v in found.attributes if k in ("href", "xlink:href") and v}
    assert links <= set(found.ids)


def test_no_text_becomes_markup_and_nothing_is_loaded(tmp_path):
    path = sweep(tmp_path, HOSTILE, name=HOSTILE, config={"question": HOSTILE})
    (path / "sweep.yaml").write_text(f"# {HOSTILE}\n")
    found = report(path)
    assert not {"script", "img", "iframe", "link", "object", "image"} & set(found.tags)
    assert found.tags.count("style") == 1 + 1  # the page's and its figure's
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert (value or "").startswith("#")
    assert found.words.count("<script>alert(1)</script>") > 8


def test_the_definitions_of_a_sweep_file_come_first(tmp_path):
    path = sweep(tmp_path, config={"tables": {"mine": {"rows": ["agent"]}}})
    assert "mine" in report(path).words
    tables = {"theirs": {"rows": ["agent"], "ties": "agent"}, "bad": {"rows": ["nothing"]}}
    figures = {"lines": {"kind": "seeds", "axis": "agent"}, "none": {"kind": "bars", "axis": "x"}}
    header = Header.model_validate({"name": "n", "out": "o", "tables": tables, "figures": figures})
    found = report(path, header)
    assert "theirs" in found.words and "mine" not in found.words
    assert "not made: there is no axis 'nothing'" in found.words
    assert "not drawn: there is no axis 'x'" in found.words
    assert "lines (seeds), by agent" in found.words


def test_definitions_of_another_version_are_named(tmp_path):
    with pytest.raises(UsageError, match="is unknown to this version"):
        report(sweep(tmp_path, config={"tables": {"mine": {"colour": "red"}}}))


@pytest.mark.parametrize("which", ["empty", "failed", "one"])
def test_results_with_little_in_them_give_a_page_without_wrong_numbers(tmp_path, which):
    built = Built(grid_of("a", backbones=["m"]), seeds=[0], case_ids=["u0"])
    if which == "failed":
        built.failed(built.cells[0], "u0", 0, "infrastructure", error="no route")
    if which == "one":
        built.episode(built.cells[0], "u0", 0, success_turn=1)
    found = report(built.write(tmp_path, config=ONE))
    assert f"{int(which == 'one')} of 1 planned" in found.words
    assert not {"nan", "inf", "None"} & set(found.words.split())
    assert ("no route" in found.words) == (which == "failed")
    assert ("svg" in found.tags) == (which == "one")


def test_tables_by_group_of_a_paper_and_of_judges_are_in_the_report(tmp_path):
    built = Built(grid_of("a", "b", backbones=["m"]), groups={"u0": ["Active"], "u1": ["Passive"]})
    judge = built.judge("relevance", "clarity")
    for cell in built.cells:
        for case_id in built.case_ids:
            rows = [built.episode(cell, case_id, seed, success_turn=1) for seed in built.seeds]
            row = rows[0]
            built.verdict(judge, row, "clarity", 3.0)
            built.label("ann", "relevance", row, "clarity", 2.0)
    tables = {
        "groups": {"rows": ["agent"], "by": ["openness"]},
        "paper": {"published": "csi/table3"},
    }
    found = report(built.write(tmp_path, config={**ONE, "tables": tables}))
    assert "sr@5[Active]" in found.words
    assert re.search(r"not made: \S+ does not record what its cells ran with", found.words)
    assert "agreement" in found.words and "kappa" in found.words
