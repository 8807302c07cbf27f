"""Critics in sweep files: what they change in a cell, and where they are refused."""

import pytest

from agents.core.errors import UsageError
from runner.driver.loading import load_plan
from sweeps import identity
from tests.sweep_files import plan_of, write_sweep

GRID = {"agent": ["zero_shot"]}
ROLES = {"user": "strong", "agent": "weak", "critic": "strong"}


def cell_of(folder, **changes):
    (cell,) = plan_of(write_sweep(folder, grid=GRID, roles=ROLES, **changes)).cells
    return cell


def test_a_cell_without_a_critic_keeps_the_id_that_it_had_before_there_were_any(
    tmp_path, monkeypatch
):
    parts = {
        "domain": "d", "split": "test", "agent": {"name": "a"}, "user": {"name": "u"},
        "success": {"name": "s"}, "limits": {"max_turns": 5}, "models": {"agent": {"m": 1}},
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(identity, "RECIPE", 2)  # that of the time
        assert identity.cell_id(**parts) == "39ced3f88e1cc3c5e0a2bd285abe9fcd"
    without = {"user": "strong", "agent": "weak"}
    (cell,) = plan_of(write_sweep(tmp_path, grid=GRID, roles=without)).cells
    assert cell_of(tmp_path).cell_id == cell.cell_id


def test_the_critic_is_part_of_the_id_with_what_it_asks_and_who_answers(tmp_path):
    ids = [
        cell_of(tmp_path).cell_id,
        cell_of(tmp_path, critic="rewarder").cell_id,
        cell_of(tmp_path, critic={"name": "rewarder", "samples": 3}).cell_id,
        cell_of(tmp_path, critic={"name": "rewarder", "values": [0, 0, 0, 0.5, 1]}).cell_id,
    ]
    assert len(set(ids)) == len(ids)
    same = cell_of(tmp_path, critic={"name": "rewarder", "samples": 10, "temperature": 1.1})
    assert same.cell_id == ids[1]
    weak = write_sweep(tmp_path, grid=GRID, roles={**ROLES, "critic": "weak"}, critic="rewarder")
    assert plan_of(weak).cells[0].cell_id not in ids


def test_a_critic_speaks_for_its_role_and_can_be_an_axis(tmp_path):
    grid = {"critic.samples": [1, 3], "roles.critic": ["weak", "strong"]}
    cells = plan_of(write_sweep(tmp_path, grid=grid, agent="zero_shot", roles={
        "user": "strong", "agent": "weak"}, critic={"name": "rewarder"})).cells  # fmt: skip
    assert [cell.roles["critic"] for cell in cells] == ["weak", "strong"] * 2
    assert [cell.config.critic.options for cell in cells] == [{"samples": n} for n in (1, 1, 3, 3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"success": "critic_above"}, "success: 'critic_above' needs a critic, whose score it "
         "reads; name one, for example `critic: rewarder`"),
        ({"critic": "rewardr"}, "critic: no critic is called 'rewardr'; did you mean 'rewarder'?"),
        ({"critic": {"name": "rewarder", "sample": 3}}, "critic: unknown key 'sample'; did you "
         "mean 'samples'?"),
        ({"critic": {"name": "rewarder", "samples": 3, "min_valid": 4}},
         "min_valid: expected at most `samples` (3), found 4"),
        ({"critic": "rewarder", "roles": {"user": "strong", "agent": "weak"}},
         "no model is given for the role 'critic'"),
    ],
)  # fmt: skip
def test_what_a_critic_cannot_be_is_named_with_its_place(tmp_path, changes, message):
    sweep = write_sweep(tmp_path, **{"grid": GRID, "roles": ROLES, **changes})
    with pytest.raises(UsageError) as caught:
        plan_of(sweep)
    assert message.split(": ", 1)[-1] in caught.value.message
    assert caught.value.message.startswith(f"{sweep}:")


def test_draws_of_a_greedy_model_are_refused(tmp_path):
    greedy = {"backend": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m",
              "sampling": {"temperature": 0}}  # fmt: skip
    models = {"strong": {"backend": "rules"}, "weak": {"backend": "rules"}, "greedy": greedy}
    given = {"grid": GRID, "models": models, "roles": {**ROLES, "critic": "greedy"}}
    for temperature in (None, 0):
        critic = {"name": "rewarder", "temperature": temperature}
        with pytest.raises(UsageError, match="draws 10 verdicts, but its model 'greedy' is greedy"):
            load_plan(write_sweep(tmp_path, **given, critic=critic), ())
    for critic in ({"name": "rewarder"}, {"name": "rewarder", "temperature": 0, "samples": 1}):
        assert load_plan(write_sweep(tmp_path, **given, critic=critic), ()).cells


def test_an_order_is_refused_where_no_agent_has_a_memory(tmp_path):
    why = "no agent of this sweep has a memory across dialogues, so their order changes nothing"
    for grid, seeds in (
        (GRID, {"seeds": {"sampling": 1, "order": 2}}),
        ({**GRID, "seeds.order": [1]}, {}),
        ({**GRID, "seeds": [{"sampling": 1, "order": 1}]}, {}),
    ):
        with pytest.raises(UsageError) as caught:
            plan_of(write_sweep(tmp_path, grid=grid, roles=ROLES, **seeds))
        assert caught.value.message.endswith(f": seeds.order: {why}")


def test_messages_about_roles_name_those_that_there_are(tmp_path):
    roles = {"user": "weak", "agent": "weak", "crtic": "weak"}
    with pytest.raises(UsageError, match="there is no role 'crtic'; did you mean 'critic'"):
        plan_of(write_sweep(tmp_path, grid=GRID, roles=roles))
