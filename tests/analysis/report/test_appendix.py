"""The appendix for papers: all that LaTeX needs, and nothing that breaks it."""

from __future__ import annotations

import json
import re

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
    for words in ("backend=vllm", "model=org/m", "revision=" + "a" * 40, "top", "candidates=50",
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


def test_the_appendix_is_printed_or_written(tmp_path, capsys):
    folder = str(sweep(tmp_path / "r"))
    options = {"standalone": True, "prompts": False, "console": screen()}
    show_appendix(folder, out=None, **options)
    shown = capsys.readouterr().out
    assert shown.endswith("\\end{document}\n")
    assert "Prompts" not in shown
    show_appendix(folder, out=tmp_path / "a.tex", **options)
    assert (tmp_path / "a.tex").read_text() == shown
    assert "wrote" in printed(options["console"])
