"""No test depends on the speed of the machine."""

import re

import hypothesis

from tests.conftest import ROOT

# In seconds, of a wait for another process or thread.
_SHORT = re.compile(
    r"(?:\.communicate|\.join|subprocess\.run|wait_procs|\.wait)\((?:[^()]|\([^()]*\))*"
    r"timeout=\d|\.(?:wait|join)\(\d"
)


def test_property_tests_have_no_deadline():
    assert hypothesis.settings.default is not None
    assert hypothesis.settings.default.deadline is None


def test_waits_for_other_processes_have_one_last_guard():
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "bench"]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}: {match.group()[:60]}"
        for path in files
        for match in _SHORT.finditer(path.read_text())
    ]
    assert not [each for each in found if "test_watchdog.py" not in each]  # its clock is virtual
