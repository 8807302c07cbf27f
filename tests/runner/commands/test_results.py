"""What the reading commands print."""

from __future__ import annotations

import io

from rich.console import Console

from runner.commands.compare import show_comparison
from tests.analysis.builder import Built, grid_of, recorded


def screen(width: int = 200, *, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_comparison_notes_leaks_and_disagreements_too(tmp_path):
    built = Built(grid_of("a"))
    for cell in built.cells:
        for case_id in built.case_ids:
            for seed in built.seeds:
                leak = recorded(leak=(cell.cell_id, case_id, seed) == ("a/weak", "u0", 0))
                built.episode(cell, case_id, seed, success_turn=1, opening={"user_extra": leak})
    console = screen()
    show_comparison(
        str(built.write(tmp_path)),
        axis="roles.agent",
        metrics=["sr@5"],
        baseline=None,
        console=console,
    )
    lines = printed(console).splitlines()
    assert any(line.startswith("sr@5: roles.agent strong - weak = +0.000") for line in lines)
    assert lines[-1] == ("weak: leaks in 1 of 12 dialogues (8 %); not clean: 1 of 12 successes")
