"""False successes: what simulated users record against themselves, counted by hand."""

from __future__ import annotations

import pytest

from agents.core.errors import UsageError
from analysis.metrics.core import parse_metric
from analysis.results import Results
from analysis.tables.table import Table, make_table
from tests.analysis.builder import Built, Cell, Row, grid_of, recorded

OPENING = {"user_extra": recorded(leak=False)}
LEAKED_OPENING = {"user_extra": recorded(leak=True)}


def turn(number: int, decision: str, *, leak: bool = False, disagrees: bool | None = None) -> Row:
    record = {"leak": leak} if disagrees is None else {"leak": leak, "disagrees": disagrees}
    return {"turn": number, "user_decision": decision, "user_extra": recorded(**record)}


REFUSED = turn(1, "refuse", disagrees=False)
EIGHT: list[Row] = [
    # Clean: right acceptances; a title named while accepting helps no one.
    {"success_turn": 1, "turns": [turn(1, "accept", disagrees=False)]},
    {"success_turn": 2, "turns": [REFUSED, turn(2, "accept", leak=True, disagrees=False)]},
    # Not clean: a wrong item accepted; the title named in the opening, or a turn before.
    {"success_turn": 1, "turns": [turn(1, "accept", disagrees=True)]},
    {
        "success_turn": 1,
        "opening": LEAKED_OPENING,
        "turns": [turn(1, "accept", disagrees=False)],
    },
    {
        "success_turn": 3,
        "turns": [REFUSED, turn(2, "answer", leak=True), turn(3, "accept", disagrees=False)],
    },
    # Failures: a target refused, a leak that did not help, and an agent that broke down.
    {"turns": [turn(1, "refuse", disagrees=True)]},
    {"turns": [turn(1, "answer", leak=True)]},
    {"blame": "agent"},
]  # fmt: skip


def built(*episodes: Row, cells: list[Cell] | None = None, **changes) -> Built:
    found = Built(
        cells or grid_of("a", backbones=["s"]),
        seeds=[0],
        case_ids=[f"u{n}" for n in range(len(episodes))],
        **changes,
    )
    for case_id, episode in zip(found.case_ids, episodes, strict=True):
        add = found.failed if "blame" in episode else found.episode
        add(found.cells[0], case_id, 0, **{"opening": OPENING, **episode})  # type: ignore[operator]
    return found


def table(found: Built, folder, *metrics: str) -> Table:
    return make_table(Results.open(found.write(folder)), metrics or ["sr@5"])


def doubts(found: Table) -> list[str]:
    """The notes on leaks and disagreements."""
    words = ("leaks in", "disagreements in", "WARNING", "more cells")
    return [note for note in found.notes if any(word in note for word in words)]


@pytest.mark.parametrize(
    ("metric", "mean", "n"),
    [
        ("sr@5", 5 / 8, 8),
        ("sr_clean@5", 2 / 8, 8),
        ("sr_clean@1", 1 / 8, 8),
        ("sr_clean_completed@5", 2 / 7, 7),
        ("at_fail_plus_1_clean", (1 + 2 + 6 * 6) / 8, 8),
        ("at_fail_t_clean", (1 + 2 + 6 * 5) / 8, 8),
        ("at_success_only_clean", (1 + 2) / 2, 2),
    ],
)
def test_a_clean_success_has_no_leak_before_it_and_a_right_acceptance(tmp_path, metric, mean, n):
    value = table(built(*EIGHT), tmp_path, metric).rows[0].values[0]
    assert (value.mean, value.episodes) == (pytest.approx(mean), n)


def test_leaks_and_disagreements_are_noted_with_their_shares(tmp_path):
    found = table(built(*EIGHT), tmp_path)
    assert doubts(found) == [
        "leaks in 4 of 8 dialogues (50 %); disagreements in 2 of 8 dialogues (25 %); "
        "not clean: 3 of 5 successes"
    ]
    assert any("`sr_clean@t` counts only" in note for note in found.notes)


def test_only_cells_with_leaks_or_disagreements_are_named(tmp_path):
    cells = [
        Cell(f"{agent}-{model}", {"agent": f"{agent}(n=50)", "roles.agent": model, "k": "v"})
        for agent in ("a", "b") for model in ("strong", "weak")
    ]  # fmt: skip
    found = Built(cells, seeds=[0], case_ids=["u0", "u1"])
    for cell in cells:
        for case_id in found.case_ids:
            leaks = (cell.cell_id, case_id) == ("b-weak", "u1")
            opening = LEAKED_OPENING if leaks else OPENING
            right = turn(1, "accept", disagrees=False)
            found.episode(cell, case_id, 0, success_turn=1, opening=opening, turns=[right])
    assert doubts(table(found, tmp_path)) == [
        "b, weak: leaks in 1 of 2 dialogues (50 %); not clean: 1 of 2 successes"
    ]


def test_a_value_that_says_nothing_alone_is_named_with_its_axis(tmp_path):
    axes = [("a", "true", "0.5"), ("a", "false", "1"), ("b", "false", "1e-3")]
    cells = [
        Cell(f"c{n}", {"agent": agent, "simulator.leak_guard": guard, "models.strong.skill": skill})
        for n, (agent, guard, skill) in enumerate(axes)
    ]
    found = Built(cells, seeds=[0], case_ids=["u0"])
    for cell in cells:
        refused = [turn(1, "refuse", disagrees=False)]
        found.episode(cell, "u0", 0, opening=LEAKED_OPENING, turns=refused)
    made = table(found, tmp_path)
    assert doubts(made) == [
        f"{agent}, simulator.leak_guard={guard}, models.strong.skill={skill}: "
        "leaks in 1 of 1 dialogues (100 %)"
        for agent, guard, skill in axes
    ]
    assert not any("success" in note for note in made.notes)  # there was none


def test_many_cells_are_named_worst_first(tmp_path):
    cells = [Cell(f"c{n:02}", {"agent": f"agent{n:02}"}) for n in range(25)]
    found = Built(cells, seeds=[0], case_ids=["u0"])
    for number, cell in enumerate(cells):
        success = {"success_turn": 1} if number % 2 else {}
        right = turn(1, "accept" if number % 2 else "refuse", disagrees=False)
        found.episode(cell, "u0", 0, opening=LEAKED_OPENING, turns=[right], **success)
    lines = doubts(table(found, tmp_path))
    assert len(lines) == 21
    assert sum("not clean: 1 of 1 success" in line for line in lines) == 12
    assert lines[-1] == "... and 5 more cells with fewer of them"


@pytest.mark.parametrize(
    "extra", ["{}", '{"mood":"good"}', '{"leak":null}', '{"note":{"leak":true}}']
)
def test_users_that_record_no_leaks_leave_clean_successes_undefined(tmp_path, extra):
    plain = {"opening": {"user_extra": extra}}
    turns = [{"turn": 1, "user_decision": "accept", "user_extra": extra}]
    found = built({"success_turn": 1, "turns": turns, **plain}, {"blame": "agent", **plain})
    metrics = ("sr@5", "sr_clean@5", "at_fail_t_clean")
    made = table(found, tmp_path, *metrics)
    assert [v.mean for v in made.rows[0].values] == [0.5, None, None]
    assert doubts(made) == []


def test_a_dialogue_that_failed_before_its_first_turn_is_a_failure_among_those_recorded(tmp_path):
    found = built(
        {"success_turn": 1, "turns": [turn(1, "accept", disagrees=False)]}, {"blame": "agent"}
    )
    failed = found.rows["episodes"][1]["attempt_id"]
    found.rows["turns"] = [t for t in found.rows["turns"] if t["attempt_id"] != failed]
    value = table(found, tmp_path, "sr_clean@5").rows[0].values[0]
    assert (value.mean, value.episodes) == (0.5, 2)


def test_what_does_not_count_in_the_table_is_not_in_its_notes(tmp_path):
    leaking = {"opening": LEAKED_OPENING, "success_turn": 1}
    found = built({"success_turn": 1}, {**leaking, "status": "failed", "blame": "infrastructure"})
    found.sample = 2
    found.case_ids.append("u2")
    found.episode(found.cells[0], "u2", 0, **leaking)  # beyond the sample
    found.episode(found.cells[0], "u0", 0, attempt=1, driver_epoch=9, **leaking)  # a stray worker's
    made = table(found, tmp_path, "sr_clean@5")
    assert doubts(made) == []
    assert made.rows[0].values[0].mean == 1.0


def dialogues(decision: str, *wrong: bool) -> list[Row]:
    return [
        {
            "success_turn": 1 if decision == "accept" else None,
            "turns": [turn(1, decision, disagrees=disagrees)],
        }
        for disagrees in wrong
    ]


@pytest.mark.parametrize(
    ("episodes", "warning"),
    [
        (
            dialogues("accept", True, True, True),
            "accepted every recommendation: 3 of 3 decisions are against its targets",
        ),
        (
            dialogues("accept", True, False, False),
            "accepted every recommendation: 1 of 3 decisions are against its targets",
        ),
        (
            dialogues("refuse", True, True, False, False),
            "refused every recommendation: 2 of 4 decisions are against its targets",
        ),
        (
            dialogues("accept", True, True) + dialogues("refuse", True),
            "disagreed with the targets in every decision: "
            "3 of 3 decisions are against its targets",
        ),
        (dialogues("accept", True, True) + dialogues("refuse", False), None),
        (dialogues("accept", False, False, False), None),  # an agent that is always right
        (dialogues("refuse", False, False, False), None),  # or never
        (dialogues("accept", True, True), None),  # too few to say
    ],
)
def test_a_user_that_decides_alike_whatever_is_recommended_is_warned_of(
    tmp_path, episodes, warning
):
    notes = [n for n in doubts(table(built(*episodes), tmp_path)) if n.startswith("WARNING")]
    if warning is None:
        assert notes == []
    else:
        assert notes == [
            f"WARNING: the simulated user {warning}, so success says nothing about the agent"
        ]


def test_only_metrics_of_success_have_a_variant_over_clean_ones():
    for text in ("hr_clean@5_turn", "tokens_clean", "dsr_pooled_clean@5", "recall_clean@3"):
        with pytest.raises(UsageError, match=f"'{text}'.*sr_clean@5"):
            parse_metric(text)
    with pytest.raises(UsageError, match="no metric"):
        parse_metric("sr_completed_clean@5")
    assert parse_metric("sr_clean@3").clean and not parse_metric("sr@3").clean
