"""What a run prints reaches the screen, also after an engine in its process has begun to print."""

import subprocess
import sys

from tests.conftest import ROOT

RUN = """
import os, sys
from pathlib import Path
from runner.cli.exits import lasting_console
from workers.engines.output import redirect

console, screen = lasting_console()
console.print("before")
redirect(Path(sys.argv[1]), keep_screen=True)
console.print("after: é")
os.write(1, b"an engine's own words")
print("wrong", file=sys.stderr)
redirect(Path(sys.argv[1]), keep_screen=True)  # the engines of the run's next stage
console.print("last")
os.write(1, b", and another's")
assert screen.failed is None
"""


def test_a_run_keeps_its_screen_when_its_engines_are_sent_to_a_file(tmp_path):
    log = tmp_path / "engine.log"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", RUN, str(log)],
        cwd=ROOT, capture_output=True, env={"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.stderr == b"wrong\n"
    assert done.stdout == "before\nafter: é\nlast\n".encode("latin-1")
    assert log.read_text() == "an engine's own words, and another's"
