"""What crsweep writes in LaTeX compiles: `make latex-test`."""

from __future__ import annotations

import shutil
import subprocess

from analysis.report.appendix import appendix
from analysis.results import Results
from analysis.statistics.defined_tables import sheet_for
from analysis.tables import sheets
from sweeps.schema import TableSpec
from tests.analysis.report.test_appendix import sweep
from tests.analysis.tables.test_pivot import results
from tests.conftest import LAST_GUARD_SECONDS

PAGE = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"


def compile_latex(folder, text):
    assert shutil.which("pdflatex"), "pdflatex is missing (Debian: texlive-latex-recommended)"
    (folder / "a.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, check=False, timeout=LAST_GUARD_SECONDS
    )
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")


def test_the_appendix_compiles(tmp_path):
    compile_latex(tmp_path, appendix(Results.open(sweep(tmp_path / "r")), standalone=True))


def test_a_table_with_marks_spanning_heads_and_hostile_text_compiles(tmp_path):
    spec = TableSpec(rows=["agent"], columns=["domain"], metrics=["sr@5"], ties="agent")
    sheet = sheet_for(results(tmp_path / "r"), spec)
    sheet.rows[0][0] = sheet.rows[0][0]._replace(text=r"\frac{a}_^&%$#~<>{} “é”")
    sheet.notes.append(r"a note with 50 % \end{tabular} & more_")
    compile_latex(tmp_path, PAGE % sheets.latex(sheet))
