"""Every file can be read in one sitting: at most 450 lines, unless its head says why not."""

from pathlib import Path

import pytest

from tests.own_files import own_files

MOST_LINES = 450
HEAD = 15
"""Lines from the top in which a longer file gives its reason, on a line with `REASON`."""
REASON = "One file because"
SUFFIXES = (".py", ".sql", ".j2")


def too_long(path: Path) -> str | None:
    """What is wrong with the file, if anything is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= MOST_LINES or any(REASON in line for line in lines[:HEAD]):
        return None
    return f"{path.name} has {len(lines)} lines"


def test_no_file_is_long_without_a_reason_at_its_head():
    found = own_files(SUFFIXES)
    assert len(found) > 100
    assert [wrong for path in found if (wrong := too_long(path))] == [], (
        f"more than {MOST_LINES} lines: split the file by its ideas, or write a line "
        f"'{REASON} ...' among its first {HEAD}"
    )


@pytest.mark.parametrize(
    ("head", "lines", "expected"),
    [
        ("", 450, None),
        ("", 451, "a.py has 451 lines"),
        (f"# {REASON} its rows are one table.\n", 450, None),
        ("\n" * HEAD + f"# {REASON} no reader gets this far.\n", 450, "a.py has 466 lines"),
    ],
)
def test_a_long_file_is_found_unless_its_head_gives_a_reason(tmp_path, head, lines, expected):
    path = tmp_path / "a.py"
    path.write_text(head + "x = 1\n" * lines)
    assert too_long(path) == expected
