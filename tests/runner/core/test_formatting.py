"""How what is needed next is worded."""

import io

import pytest
from rich.console import Console

from runner.cli.exits import print_resume_hint
from runner.driver.result import RunResult
from sweeps.storage.folder import folder_at


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ([], "to resume: "),
        (["caps.tokens=MORE_THAN_5"], "to resume, with a higher cap: "),
        (["caps.tokens=null", "caps.cost=null"], "to resume, without a cap: "),
        (["caps.tokens=null", "caps.gpu_hours=MORE_THAN_1"], "to resume, with other caps: "),
    ],
)
def test_the_way_to_resume_says_what_becomes_of_the_caps(needs, words):
    text = io.StringIO()
    print_resume_hint(
        RunResult(folder_at("out"), "episode", 2, 1, None, needs=needs), Console(file=text)
    )
    assert text.getvalue().startswith(words)
