"""The appendix for papers: all that LaTeX needs, and nothing that breaks it."""

from __future__ import annotations

import json
import re
from importlib import metadata

from analysis.report.appendix import appendix, latex_text
from analysis.results import Results
from runner.commands.report import show_appendix
from tests.analysis.builder import CALL, Built, Cell
from tests.runner.commands.test_results import printed, screen

HOSTILE = (
    "\\end{quote}\\input{/etc/passwd} $x_1$ 100% #1 {a} ~^ <b> \u4e2d \u0000 é “q” a--b ''\n  in"
)


def sweep(folder):
    model = {"backend": "vllm", "model": "org/m", "revision": "a" * 40, "sampling": {"top_p": 0.9}}
    settings = {
        "agent": {"name": HOSTILE, "candidates": 50, "prompts": None},
        "domain": {"name": "movielens", "k_core": 10},
        "models": {"agent": model},
    }
    cell = Cell("c", {"agent": "a"}, settings=settings)
    built = Built([cell], seeds=[0], case_ids=["u0"])
    prompt = json.dumps([{"role": "system", "content": HOSTILE}])
    calls = [{**CALL, "prompt": prompt, "reply": HOSTILE}, {**CALL, "role": "user", "prompt": "{"}]
    built.episode(cell, "u0", 0, success_turn=1, calls=calls)
    return built.write(folder, host={"platform": "Linux", "name": "secret-host"})


def test_an_appendix_has_what_a_reader_needs_to_repeat_it(tmp_path):
    text = appendix(Results.open(sweep(tmp_path)), standalone=False)
    plain = re.sub(r"\\allowbreak\{\}|[{}]", "", text)
    for words in ("backend=vllm", "org/m, revision " + "a" * 40, "top", "candidates=50",
                  "k\\_core=10", "fingerprint f", "seeds", "Linux", "agent: decide"):  # fmt: skip
        assert words in plain, words
    assert "secret" not in text  # a host says nothing that can be repeated
    assert "\\documentclass" not in text


def test_no_text_is_a_command(tmp_path):
    text = appendix(Results.open(sweep(tmp_path)), standalone=True)
    assert "\\input" not in text
    assert text.count("\\end{quote}") == text.count("\\begin{quote}")
    assert "U+4E2D" in text
    assert "\x00" not in text


def test_letters_of_other_scripts_are_numbers():
    assert latex_text("é “x” 中 →") == (
        "é “x” \\textless{}U+4E2D\\textgreater{} \\textless{}U+2192\\textgreater{}"
    )


def test_the_appendix_is_written_where_it_is_wanted_or_named_after_the_sweep(tmp_path, monkeypatch):
    folder = str(sweep(tmp_path / "r"))
    monkeypatch.chdir(tmp_path)
    options = {"standalone": True, "prompts": False, "console": screen()}
    show_appendix(folder, out=None, **options)
    shown = (tmp_path / "built_appendix.tex").read_text()
    assert shown.endswith("\\end{document}\n")
    assert "Prompts" not in shown
    show_appendix(folder, out=tmp_path / "a.tex", **options)
    assert (tmp_path / "a.tex").read_text() == shown
    assert "wrote" in printed(options["console"])


def test_models_have_their_name_in_the_sweep_and_the_published_one_with_its_revision(tmp_path):
    big = {"backend": "vllm", "model": "org/big", "revision": "b" * 8, "sampling": {"top_p": 0.9}}
    small = {"backend": "openai", "model": "small-4"}
    cells = [
        Cell(
            name, {"roles.agent": name},
            settings={"models": {"agent": model, "agent.plan": model, "user": small}},
        )
        for name, model in (("large", big), ("cheap", small))
    ]  # fmt: skip
    folder = Built(cells, seeds=[0]).write(
        tmp_path,
        config={"models": {"large": big, "cheap": small}, "roles": {"user": "cheap"}},
        host={"cpu": "A 9000", "cores": 4, "memory_gib": 15, "python": "3.12.1"},
    )
    plain = re.sub(r"\\allowbreak\{\}|[{}]", "", appendix(Results.open(folder), standalone=False))
    assert re.search(
        r"\\item\[large\] org/big, revision bbbbbbbb; backend=vllm, .*0\.9.*; "
        r"roles: agent, agent\.plan\n",
        plain,
    )
    assert "\\item[cheap] small-4, no revision stated; backend=openai; roles: user, agent" in plain
    assert "A 9000, 4 cores, 15 GiB of memory" in plain
    for library in ("duckdb", "scipy", "statsmodels"):
        assert f"{library} {metadata.version(library)}" in plain
