"""Names that are reserved for later are refused in one line, wherever a sweep file uses them."""

from typing import Any

import pytest

from agents.core.errors import UsageError
from sweeps import reserved
from tests.sweep_files import BASE, plan_of, write_sweep

CRITICS = "critics are not supported yet; the roles are agent, user and judge"
ORDER = "no agent of this sweep has a memory across dialogues, so their order changes nothing"


@pytest.mark.parametrize(
    ("key", "value", "path", "why"),
    [
        ("roles", {"user": "strong", "critic": "weak"}, "roles.critic", CRITICS),
        ("roles", {"user": "strong", "critic.tone": "weak"}, "roles.critic.tone", CRITICS),
        ("critic", "strict", "critic", CRITICS),
        ("seeds", {"sampling": 1, "order": 2}, "seeds.order", ORDER),
    ],
)
def test_a_reserved_name_is_refused_in_one_line_that_names_it_and_its_place(
    tmp_path, key, value, path, why
):
    grid = {axis: values for axis, values in BASE["grid"].items() if axis != "seed"}
    sweep = write_sweep(tmp_path, grid=grid, **{key: value})
    with pytest.raises(UsageError) as caught:
        plan_of(sweep)
    last = path.split(".", 1)[-1]
    line = next(n for n, text in enumerate(sweep.read_text().splitlines(), 1) if f"{last}:" in text)
    assert caught.value.message == f"{sweep}:{line}: {path}: {why}"

    override = f"{path}=1" if key == "seeds" else f"{path}='1'"
    with pytest.raises(UsageError) as caught:
        plan_of(write_sweep(tmp_path, grid=grid), override)
    assert caught.value.message == f"override '{override}': {path}: {why}"


@pytest.mark.parametrize(
    ("axis", "value", "path", "why"),
    [
        ("roles.critic", "weak", "roles.critic", CRITICS),
        ("seeds.order", 1, "seeds.order", ORDER),
        ("seeds", {"sampling": 1, "order": 1}, "seeds.order", ORDER),
        ("critic", "strict", "grid: critic", CRITICS),
    ],
)
def test_an_axis_that_sets_a_reserved_name_is_refused(tmp_path, axis, value, path, why):
    sweep = write_sweep(tmp_path, grid={"agent": ["zero_shot"], axis: [value]}, roles={
        "user": "strong", "agent": "weak"})  # fmt: skip
    with pytest.raises(UsageError) as caught:
        plan_of(sweep)
    line = next(n for n, text in enumerate(sweep.read_text().splitlines(), 1) if f"{axis}:" in text)
    expected = f"{sweep}:{line}: {path}: {why}"
    assert caught.value.message == expected


def test_messages_about_other_names_do_not_suggest_a_reserved_one(tmp_path):
    grid = {"agent": ["zero_shot"]}
    given: tuple[tuple[dict[str, Any], str], ...] = (
        ({"seeds": 3}, "expected a mapping, found 3 (known: order, sampling, training)"),
        ({"roles": {"user": "weak", "agent": "weak", "crtic": "weak"}},
         "there is no role 'crtic' (a role begins with one of: agent, user, judge)"),
    )  # fmt: skip
    for changes, expected in given:
        with pytest.raises(UsageError) as caught:
            plan_of(write_sweep(tmp_path, grid=grid, **changes))
        assert caught.value.message.endswith(expected)


def test_what_is_not_reserved_may_be_used():
    assert reserved.usable(reserved.ROLES, ["roles"]) == ["agent", "user", "judge"]
    for path in (["roles", "agent", "critic"], ["models", "judge"], ["seeds", "sampling"]):
        assert reserved.reserved(path) is None
