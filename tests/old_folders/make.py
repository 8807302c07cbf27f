"""`python -m tests.old_folders.make FILE.zip`: runs `resumable/sweep.yaml`, kills the run after its
first bundle and a few more calls, and packs its folder."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT
from tests.fork_server import ForkServer
from tests.runner.processes import kill, wait_for
from tests.runner.reading import requests

SWEEP = Path(__file__).parent / "resumable/sweep.yaml"
_MORE_CALLS = 6


def make(target: Path) -> None:
    """Writes a half-finished folder to `target`, which must end in `.zip`."""
    with tempfile.TemporaryDirectory() as temporary, ForkServer(ROOT) as server:
        out = Path(temporary) / "out"
        command = ["run", str(SWEEP), f"out={out}", "name=resumable"]
        process = server.start(command, dict(os.environ))
        wait_for(lambda: list(out.glob("episodes/*.parquet")), process, "a bundle")
        enough = requests(out).total() + _MORE_CALLS
        wait_for(lambda: requests(out).total() >= enough, process, "more calls")
        kill(process)
        shutil.make_archive(str(target.with_suffix("")), "zip", out)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
