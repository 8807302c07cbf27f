"""What crsweep writes in LaTeX compiles: `make latex-test`."""

from __future__ import annotations

import shutil
import subprocess

from analysis.report.appendix import appendix
from analysis.results import Results
from tests.analysis.report.test_appendix import sweep
from tests.conftest import LAST_GUARD_SECONDS


def test_the_appendix_compiles(tmp_path):
    assert shutil.which("pdflatex"), "pdflatex is missing (Debian: texlive-latex-recommended)"
    text = appendix(Results.open(sweep(tmp_path / "r")), standalone=True)
    (tmp_path / "a.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, check=False, timeout=LAST_GUARD_SECONDS
    )
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
