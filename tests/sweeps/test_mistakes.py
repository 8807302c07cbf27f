"""A mistake in a sweep file ends in one clear line: file, line, found, expected, a near match."""

import pytest

from tests.sweep_files import BASE, plan_of, write_sweep
from tests.sweeps.mistakes import edited, line_of, refused


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("cases:", "casess:", "unknown key 'casess'; did you mean 'cases'?"),
        ("sample: 4", "sampel: 4", "unknown key 'sampel'; did you mean 'sample'?"),
        ("sample: 4", "sample: many", "sample: expected a whole number, found 'many'"),
        ("items: 120", "itmes: 120", "unknown key 'itmes'; did you mean 'items'?"),
        ("skill: 0.9", "skil: 0.9", "unknown key 'skil'; did you mean 'skill'?"),
        ("skill: 0.9", "skill: 3", "expected a number of at most 1, found 3"),
        (
            "name: synthetic",
            "name: syntetic",
            "no domain is called 'syntetic'; did you mean 'synth",
        ),
        (
            "- zero_shot",
            "- zero_shoot",
            "no agent is called 'zero_shoot'; did you mean 'zero_shot'",
        ),
        ("max_thoughts", "max_thougths", "unknown key 'max_thougths'; did you mean 'max_thoughts'"),
        ("backend: rules", "backend: ruls", "no backend is called 'ruls'; did you mean 'rules'?"),
        ("user: strong", "user: stong", "there is no model 'stong'; did you mean 'strong'?"),
        ("executor: local", "executor: locale", "expected 'ray' or 'local', found 'locale'"),
        ("name: small", "name: ../small", "name: expected at most 100 letters"),
        ("name: small", "name: small\nname: other", "the key 'name' is given twice"),
        ("name: small", "name: [small", "invalid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, old, new, expected):
    path = edited(tmp_path, old, new)
    message = refused(path)
    assert expected in message
    assert message.startswith(f"{path}:")
    assert message.split(":")[1].isdecimal()


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("max_failed: 5", "max_failed", "expected a number of at most 1, found 5"),
        ("max_failed: -0.1", "max_failed", "expected a number of at least 0, found -0.1"),
        ("max_failed: 5%", "max_failed", "expected a number, found '5%'"),
        ("max_failed: true", "max_failed", "booleans are not allowed here, found true"),
        ("max_faild: 0.05", "max_faild", "unknown key 'max_faild'; did you mean 'max_failed'?"),
        ("caps: 5", "caps", "expected a mapping, found 5 (known: cost, gpu_hours, tokens)"),
        ("caps: {token: 5}", "caps.token", "unknown key 'token'; did you mean 'tokens'?"),
        ("caps: {tokens: 0}", "caps.tokens", "expected a number of at least 1, found 0"),
        ("caps: {tokens: 1.5}", "caps.tokens", "expected a whole number, found 1.5"),
        ("caps: {cost: 0}", "caps.cost", "expected a number above 0, found 0"),
        ("caps: {cost: .inf}", "caps.cost", "expected a finite number, found .inf"),
        ("caps: {gpu_hours: some}", "caps.gpu_hours", "expected a number, found 'some'"),
    ],
)
def test_a_mistake_in_limits_of_failures_and_spending_is_named(tmp_path, text, at, expected):
    path = write_sweep(tmp_path)
    path.write_text(path.read_text() + text + "\n")
    message = refused(path)
    line = line_of(path, text)
    assert message.startswith(f"{path}:{line}: ")
    assert at in message
    assert expected in message


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("{input: 1}", "models.strong.price.output: is missing"),
        ("{input: 1, outputs: 2}", "unknown key 'outputs'; did you mean 'output'?"),
        ("{input: -1, output: 2}", "models.strong.price.input: expected a number of at least 0"),
        ("cheap", "models.strong.price: expected a mapping, found 'cheap'"),
    ],
)
def test_a_mistake_in_a_price_is_named(tmp_path, price, expected):
    path = edited(tmp_path, "skill: 0.9", f"skill: 0.9\n    price: {price}")
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'price')}: ")
    assert expected in message


def test_a_price_is_no_axis(tmp_path):
    grid = {**BASE["grid"], "models.strong.price.input": [1, 2]}
    path = write_sweep(tmp_path, grid=grid)
    assert "models.strong.price.input cannot be an axis: a price changes no" in refused(path)


def test_the_line_is_the_line_of_the_mistake(tmp_path):
    path = write_sweep(tmp_path)
    path.write_text(path.read_text() + "limits:\n  shown_items: 10\n  max_turn: 5\n")
    message = refused(path)
    assert message.startswith(
        f"{path}:{line_of(path, 'max_turn: 5')}: limits.max_turn: unknown key"
    )


def test_an_axis_that_is_no_list_or_empty_is_refused(tmp_path):
    path = edited(tmp_path, "  seed:\n  - 0\n  - 1\n", "  seed: 3\n")
    assert "grid.seed: an axis must be a list of values, found 3; did you mean [3]?" in refused(
        path
    )
    path = edited(tmp_path, "  seed:\n  - 0\n  - 1\n", "  seed: []\n")
    assert "an axis must have at least one value" in refused(path)


def test_a_wrong_value_of_an_axis_is_found_at_the_axis(tmp_path):
    path = edited(tmp_path, "  roles.agent:\n", "  limits.max_turns: [5, zero]\n  roles.agent:\n")
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'limits.max_turns')}: limits.max_turns:")


def test_an_axis_that_is_no_part_of_a_cell_is_refused(tmp_path):
    path = edited(tmp_path, "  seed:\n", "  run.concurrency: [1, 2]\n  seed:\n")
    assert "'run.concurrency' is not part of a cell" in refused(path)
    path = edited(tmp_path, "  seed:\n", "  models.stong.skill: [0.1]\n  seed:\n")
    assert "there is no model 'stong'; did you mean 'strong'?" in refused(path)


def test_a_missing_environment_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_ROOT", raising=False)
    path = write_sweep(tmp_path, domain={"name": "movielens", "path": "${oc.env:NO_SUCH_ROOT}/x"})
    message = refused(path)
    assert "domain.path: the environment variable NO_SUCH_ROOT is not set: export it" in message
    assert message.startswith(f"{path}:{line_of(path, 'NO_SUCH_ROOT')}")


def test_only_two_resolvers_exist(tmp_path):
    path = write_sweep(tmp_path, name="x.yaml", out="${oc.select:name}")
    assert "unknown resolver ${oc.select:...}" in refused(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("casez.sample=2", "there is no 'casez'; did you mean 'cases'?"),
        ("cases.sampl=2", "unknown key 'sampl'; did you mean 'sample'?"),
        ("models.stong.skill=0.2", "there is no model 'stong'; did you mean 'strong'?"),
        ("limits.max_turns.x=2", "limits.max_turns"),
        ("cases.sample", "expected path=value without spaces, such as cases.sample=20, or a"),
        ("out=", "out: expected text, found nothing"),
        ("metrics=[3]", 'metrics.0: expected text, found 3; put it in quotes: "3"'),
        ("extends=x.yaml", "extends is for files; give the file itself among the overrides"),
        ("domain=..", "no domain can be called '..'; expected a name, or a module such as"),
        ("domain=a..b", "no domain can be called 'a..b'"),
        ("simulator=a/b", "no simulator is called 'a/b' (known: "),
        ("domain=os.path", "posixpath must export exactly one name in __all__, found "),
        ("cases.sample=[", "the value is invalid YAML"),
        ("grid.seed=3", "an axis must be a list"),
        ("name=../../etc", "name: expected at most 100 letters"),
    ],
)
def test_a_bad_override_is_quoted(tmp_path, override, expected):
    message = refused(write_sweep(tmp_path), override)
    assert expected in message
    assert f"override '{override}'" in message


def test_seed_and_seeds_together_are_refused(tmp_path):
    path = write_sweep(tmp_path, seed=1, seeds={"sampling": 2}, grid={"agent": ["zero_shot"]})
    assert "give `seed` or `seeds.sampling`, not both" in refused(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"success": {"name": "user_accepts", "foo": 1}}, "user_accepts takes no options"),
        ({"roles": {"usr": "strong", "user": "strong"}}, "there is no role 'usr'; did"),
        ({"exclude": [{"agnt": "react"}]}, "no point of the grid matches {'agnt': 'react'}; did"),
        ({"exclude": [{"roles.agent": "wek"}]}, "no point of the grid matches"),
        ({"cases": {"sample": True}}, "sample: booleans are not allowed here, found true"),
        ({"cases": {"sample": 99}}, "expected at most 60, the cases of the domain, found 99"),
        ({"grid": {**BASE["grid"], "cases.sample": [2, 4]}}, "cases.sample cannot be an axis"),
        ({"zip": [{"a": [1], "b": [1, 2]}]}, "is not part of a cell"),
        ({"zip": [{"limits.max_turns": [1], "limits.shown_items": [1, 2]}]}, "the same length"),
        ({"grids": [], "grid": None}, "grids: expected at least one block of axes, found []"),
        ({"zip": [{}]}, "zip.0: expected at least one axis, found {}"),
        (
            {"grid": {**BASE["grid"], "roles.agent.X": ["weak"], "roles.agent.x": ["weak"]}},
            "the axes roles.agent.X and roles.agent.x differ only in case",
        ),
        ({"grids": [{}]}, "give `grid` or `grids`, not both"),
        ({"simulator": {"name": "target_item", "prompts": "/missing"}}, "is not a folder"),
        ({"simulator": {"name": "target_item", "prompts": "docs"}}, "there is no prompt docs/open"),
        ({"agent": ".zero", "grid": {"seed": [0]}}, "no agent can be called '.zero'"),
    ],
)
def test_a_mistake_that_once_passed_is_refused_with_its_file(tmp_path, changes, expected):
    path = write_sweep(tmp_path, **changes)
    message = refused(path)
    assert expected in message
    assert message.startswith(str(path))


def test_an_override_of_what_the_grid_sets_is_refused(tmp_path):
    message = refused(write_sweep(tmp_path), "roles.agent=strong")
    assert "the grid sets roles.agent; give grid.roles.agent=[...] instead" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"agent": "reactt"}, "agent: no agent is called 'reactt'; did you mean 'react'?"),
        ({"agent": {"name": "react", "x": 1}}, "agent.x: unknown key 'x'"),
        ({"roles": {"user": "strong", "agent": "w"}}, "roles.agent: there is no model 'w'"),
        ({"seed": "x"}, "seed: expected a whole number, found 'x'"),
    ],
)
def test_a_value_that_the_grid_overrides_is_checked(tmp_path, changes, expected):
    message = refused(write_sweep(tmp_path, **changes))
    assert expected in message
    assert message.startswith(str(tmp_path))


def test_a_value_that_the_grid_overrides_is_remarked_on_unless_it_is_extended(tmp_path):
    path = write_sweep(tmp_path, agent="react")
    expected = f"{path}:{line_of(path, 'agent: react')}: agent: has no effect, the grid sets it"
    assert plan_of(path).remarks == [expected]
    child = tmp_path / "child.yaml"
    child.write_text("extends: sweep.yaml\n")
    assert plan_of(child).remarks == []
    assert plan_of(write_sweep(tmp_path)).remarks == []


def test_a_missing_data_folder_is_named_with_the_line_of_its_path(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    path = write_sweep(tmp_path, domain={"name": "movielens", "path": str(tmp_path / "ml-100")})
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'ml-100')}: domain: ")
    assert "there is no such folder" in message
    assert "did you mean 'ml-100k'?" in message


def test_a_model_that_no_role_uses_is_checked_but_needs_no_weights(tmp_path):
    absent = {"backend": "vllm", "model": str(tmp_path / "absent")}
    models = {**BASE["models"], "other": absent}
    assert plan_of(write_sweep(tmp_path, models=models)).cells
    assert "absent" in refused(write_sweep(tmp_path, models=models), "roles.user=other")
    models["other"] = {**absent, "tensor_paralel": 2}
    assert "did you mean 'tensor_parallel'" in refused(write_sweep(tmp_path, models=models))


def test_what_an_override_leaves_of_a_mapping_keeps_its_place_in_the_file(tmp_path):
    path = write_sweep(tmp_path)
    message = refused(path, "domain={name: movielens, path: /missing}")
    assert message.startswith(f"{path}:{line_of(path, 'history')}: domain.history: unknown key")
    assert "override 'cases={sample: x}': cases.sample" in refused(path, "cases={sample: x}")


def test_a_long_override_is_cut_in_messages(tmp_path):
    message = refused(write_sweep(tmp_path), "name=" + "x" * 10_000)
    assert len(message) < 500
