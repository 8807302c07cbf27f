"""Bad input ends in one clear line: file, line, found, expected, a near match."""

import json
import re
import shutil
import time

import pytest
import yaml

from agents.core.errors import CrsweepError, UsageError
from runner.core.locations import folder_of
from sweeps.load import load
from sweeps.storage.folder import folder_at
from tests.fixtures_movielens import write_ml100k
from tests.sweep_files import BASE, plan_of, write_sweep


def refused(path, *overrides) -> str:
    with pytest.raises(CrsweepError) as caught:
        plan_of(path, *overrides)
    message = caught.value.message
    assert "\n" not in message
    return message


def line_of(path, text) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def edited(folder, old, new):
    """The small sweep with `old` replaced by `new` in its text."""
    path = write_sweep(folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


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
    assert "domain.path: the environment variable NO_SUCH_ROOT is not set" in message
    assert message.startswith(f"{path}:{line_of(path, 'NO_SUCH_ROOT')}")


def test_only_two_resolvers_exist(tmp_path):
    path = write_sweep(tmp_path, name="x.yaml", out="${oc.select:name}")
    assert "unknown resolver ${oc.select:...}" in refused(path)


def test_a_chat_template_that_looks_like_a_resolver_is_refused_with_how_to_escape_it(tmp_path):
    path = write_sweep(tmp_path, name="x.yaml", out="${foo:1}")
    assert r"to keep it as text, write \${ for ${" in refused(path)
    path = write_sweep(tmp_path, name="x.yaml", out="${oc.env:NO_SUCH_ROOT_1}")
    assert r"to keep it as text, write \${ for ${" in refused(path)


def test_overrides_change_values_and_add_axes(tmp_path):
    path = write_sweep(tmp_path)
    plan = plan_of(path, "cases.sample=2", "grid.seed=[0,1,2]", "grid.simulator.max_facts=[1,2]")
    assert plan.episodes == 2 * 4 * 2 * 3
    assert plan.axes == ("agent", "roles.agent", "simulator.max_facts")
    assert plan_of(path, "simulator.decides=rule").cells[0].config.simulator.options == {
        "decides": "rule"
    }


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("casez.sample=2", "there is no 'casez'; did you mean 'cases'?"),
        ("cases.sampl=2", "unknown key 'sampl'; did you mean 'sample'?"),
        ("models.stong.skill=0.2", "there is no model 'stong'; did you mean 'strong'?"),
        ("limits.max_turns.x=2", "limits.max_turns"),
        ("cases.sample", "expected path=value, such as cases.sample=20, or a YAML file"),
        ("out=", "out: expected text, found nothing"),
        ("metrics=[3]", 'metrics.0: expected text, found 3; put it in quotes: "3"'),
        ("extends=x.yaml", "extends is for files; give the file itself among the overrides"),
        ("domain=..", "no domain can be called '..'; expected a name, or a module such as"),
        ("domain=a..b", "no domain can be called 'a..b'"),
        ("simulator=a/b", "no simulator is called 'a/b' (known: concept, ievalm, target_item)"),
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


def test_extends_merges_mappings_and_replaces_lists(tmp_path):
    write_sweep(tmp_path, name="base.yaml")
    child = tmp_path / "child.yaml"
    child.write_text(
        "extends: base.yaml\nname: child\ncases: {sample_seed: 5}\ngrid: {seed: [7]}\n"
    )
    plan = plan_of(child)
    assert plan.loaded.header.name == "child"
    assert plan.cells[0].config.cases.sample == 4
    assert plan.cells[0].config.cases.sample_seed == 5
    assert {s.sampling for c in plan.cells for s in c.seeds} == {7}
    child.write_text("extends: base.yaml\ncases: {smple: 3}\n")
    assert refused(child).startswith(f"{child}:2: cases.smple: unknown key 'smple'")


def test_variables_are_put_where_they_are_referred_to(tmp_path):
    path = write_sweep(tmp_path, vars={"thinks": 2}, grid={"agent": ["zero_shot"]})
    text = path.read_text() + "simulator: {name: target_item, max_facts: '${vars.thinks}'}\n"
    path.write_text(text)
    assert load(path).cell["simulator"]["max_facts"] == 2
    assert load(path, ["vars.thinks=3"]).cell["simulator"]["max_facts"] == 3
    assert load(path).recorded["vars"] == {"thinks": 2}
    with pytest.raises(UsageError, match="no variable 'think'; did you mean 'thinks'"):
        load(path, ["vars.think=3"])
    path.write_text(text.replace("vars.thinks", "vars.thought"))
    with pytest.raises(UsageError, match="thought"):
        load(path)


def test_extends_of_a_missing_file_or_in_a_circle_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("extends: b.yaml\n")
    assert "there is no sweep file" in refused(path)
    for base in (".", "~nobody-of-this-name/x.yaml"):
        path.write_text(f"extends: {base}\n")
        assert refused(path).startswith(f"{path}: extends: ")
    path.write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    assert "extends itself" in refused(path)


def test_a_missing_sweep_file_is_refused_with_a_near_match(tmp_path):
    path = write_sweep(tmp_path)
    with pytest.raises(UsageError, match=r"did you mean 'sweep\.yaml'"):
        load(path.with_name("swep.yaml"))


def test_what_is_recorded_keeps_environment_variables_unexpanded(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_ROOT", "/secret/place")
    domain = {"name": "movielens", "path": "${oc.env:SECRET_ROOT}/x"}
    loaded = load(write_sweep(tmp_path, domain=domain, grid={"seed": "${range:0,3}"}))
    assert loaded.cell["domain"]["path"] == "/secret/place/x"
    assert "/secret/place" not in str(loaded.recorded)
    assert loaded.recorded["grid"]["seed"] == [0, 1, 2]


def test_seed_and_seeds_together_are_refused(tmp_path):
    path = write_sweep(tmp_path, seed=1, seeds={"sampling": 2}, grid={"agent": ["zero_shot"]})
    assert "give `seed` or `seeds`, not both" in refused(path)


def test_every_shipped_sweep_loads(monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("DATA_ROOT", "/data")
    files = sorted(Path("sweeps").rglob("*.yaml"))
    # A file without a name is a part of others.
    shipped = [path for path in files if "\nname: " in f"\n{path.read_text()}"]
    assert len(shipped) >= 7
    for path in shipped:
        assert load(path).header.name
        yaml.safe_load(path.read_text())


def test_any_number_of_cells_and_seeds_is_planned_in_little_time(tmp_path):
    def seconds(seeds: int) -> float:
        grid = {"agent": ["zero_shot"], "roles.agent": ["strong"], "seed": list(range(seeds))}
        path = write_sweep(tmp_path, grid=grid)
        started = time.process_time()
        assert plan_of(path).episodes == 4 * seeds
        return time.process_time() - started

    seconds(1)
    # Seeds once made the plan quadratic, which would be 100 times as long.
    assert seconds(20_000) < 50 * seconds(2_000)


def test_roles_and_models_with_dotted_names_can_be_axes_and_overrides(tmp_path):
    grid = {"roles.agent.planner": ["strong", "weak"], "models.w1.5.skill": [0.1, 0.2]}
    models = {**BASE["models"], "w1.5": {"backend": "rules"}}
    path = write_sweep(
        tmp_path, agent="zero_shot", models=models, grid=grid,
        roles={"user": "w1.5", "agent": "weak"},
    )  # fmt: skip
    plan = plan_of(path, "roles.agent.probe=strong", "models.weak.skill=0.3")
    assert {c.axes["roles.agent.planner"] for c in plan.cells} == {"strong"}  # nobody plans yet
    assert {c.axes["models.w1.5.skill"] for c in plan.cells} == {"0.1", "0.2"}
    assert plan.cells[0].config.roles["agent.probe"] == "strong"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"success": {"name": "user_accepts", "foo": 1}}, "user_accepts takes no options"),
        ({"roles": {"usr": "strong", "user": "strong"}}, "there is no role 'usr'; did"),
        ({"exclude": [{"agnt": "react"}]}, "no point of the grid matches {'agnt': 'react'}; did"),
        ({"exclude": [{"roles.agent": "wek"}]}, "no point of the grid matches"),
        ({"cases": {"sample": True}}, "sample: booleans are not allowed here, found true"),
        ({"cases": {"sample": 99}}, "the domain has 60 cases, found 99"),
        ({"grid": {**BASE["grid"], "cases.sample": [2, 4]}}, "cases.sample cannot be an axis"),
        ({"zip": [{"a": [1], "b": [1, 2]}]}, "is not part of a cell"),
        ({"zip": [{"limits.max_turns": [1], "limits.shown_items": [1, 2]}]}, "equally long"),
        ({"grids": [], "grid": None}, "grids: expected at least one block of axes, found []"),
        ({"zip": [{}]}, "zip.0: expected at least one axis, found {}"),
        (
            {"grid": {**BASE["grid"], "roles.agent.X": ["weak"], "roles.agent.x": ["weak"]}},
            "the axes roles.agent.X and roles.agent.x differ in case only",
        ),
        ({"grids": [{}]}, "give `grid` or `grids`, not both"),
        ({"simulator": {"name": "target_item", "prompts": "/nowhere"}}, "is not a folder"),
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


def test_a_missing_data_folder_is_named_with_the_line_of_its_path(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    path = write_sweep(tmp_path, domain={"name": "movielens", "path": str(tmp_path / "ml-100")})
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'ml-100')}: domain: ")
    assert "there is no such folder" in message
    assert "did you mean 'ml-100k'?" in message


def test_a_value_of_the_environment_reaches_neither_labels_nor_records(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_URL", "http://me:password@host/v1")
    models = {"strong": {"backend": "rules"}, "a": {"backend": "openai", "model": "m",
              "base_url": "${oc.env:SECRET_URL}"}}  # fmt: skip
    grid = {"models.a.base_url": ["${oc.env:SECRET_URL}", "${models.a.base_url}"]}
    path = write_sweep(
        tmp_path,
        models=models,
        grid=grid,
        agent="zero_shot",
        roles={"user": "strong", "agent": "a"},
    )
    plan = plan_of(path)
    assert "password" not in str(plan.loaded.recorded)
    assert "password" not in str([cell.axes for cell in plan.cells])
    assert plan.cells[0].axes == {"models.a.base_url": "${oc.env:SECRET_URL}"}


def test_a_file_among_the_overrides_is_merged_in_its_turn(tmp_path):
    sweep = write_sweep(tmp_path)
    (tmp_path / "base.yaml").write_text("cases: {sample: 3}\nlimits: {max_turns: 7}\n")
    over = tmp_path / "over.yaml"
    over.write_text("extends: base.yaml\nname: over\ncases: {sample: 2}\ngrid: {seed: [7]}\n")
    loaded = load(sweep, ["grid.seed=[1, 2, 3]", str(over), "limits.shown_items=4"])
    assert loaded.header.name == "over"
    assert loaded.header.blocks[0]["seed"] == [7]
    assert loaded.header.blocks[0]["agent"] == BASE["grid"]["agent"]
    assert loaded.cell["cases"] == {"sample": 2}
    assert loaded.cell["limits"] == {"max_turns": 7, "shown_items": 4}
    assert loaded.path == sweep
    assert load(sweep, [str(over), "cases.sample=1"]).cell["cases"] == {"sample": 1}


def test_a_mistake_in_a_merged_file_is_named_there(tmp_path):
    sweep = write_sweep(tmp_path)
    over = tmp_path / "over.yaml"
    over.write_text("name: over\ncases: {smple: 2}\n")
    assert refused(sweep, str(over)).startswith(f"{over}:2: cases.smple: unknown key 'smple'")
    assert "did you mean 'over.yaml'" in refused(sweep, str(tmp_path / "ovr.yaml"))
    over.write_text("- a\n")
    assert "a sweep file is a mapping of keys" in refused(sweep, str(over))


def test_a_model_that_nobody_speaks_with_is_checked_but_needs_no_weights(tmp_path):
    absent = {"backend": "vllm", "model": str(tmp_path / "absent")}
    models = {**BASE["models"], "other": absent}
    assert plan_of(write_sweep(tmp_path, models=models)).cells
    assert "absent" in refused(write_sweep(tmp_path, models=models), "roles.user=other")
    models["other"] = {**absent, "tensor_paralel": 2}
    assert "did you mean 'tensor_parallel'" in refused(write_sweep(tmp_path, models=models))


def _with(folder, text):
    path = write_sweep(folder)
    path.write_text(path.read_text() + text)
    return path


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("written", "value"),
    [("1e1", 10.0), ("1E5", 1e5), ("1_000", 1000), (".5e3", 500.0), ("0o17", 15), ("0x1f", 31),
     ("'on'", "on"), ('"0123"', "0123"), ("12:30", "12:30"), ("2026-01-05", "2026-01-05"),
     ("null", None), ("[1e1, {b: 0x1f}]", [10.0, {"b": 31}])],
)  # fmt: skip
def test_a_number_in_an_untyped_option_is_a_number(tmp_path, written, value, override):
    models = {**BASE["models"], "m": _OPENAI}
    path = write_sweep(tmp_path, models=models)
    if override:
        loaded = plan_of(path, f"models.m.extra_body.top_k={written}").loaded
    else:
        path.write_text(path.read_text().replace("top_k: here", f"top_k: {written}"))
        loaded = plan_of(path).loaded
    assert loaded.cell["models"]["m"]["extra_body"]["top_k"] == value


_OPENAI = {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m",
           "extra_body": {"top_k": "here"}}  # fmt: skip


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("on", "YAML readers differ on 'on': write true, or put it in quotes: \"on\""),
        ("[a, {b: No}]", "YAML readers differ on 'No': write false, or"),
        ("0123", "YAML readers differ on '0123': write 123 (or 0o123 if it is octal), or"),
        ("0b11", "YAML readers differ on '0b11': write 3, or"),
    ],
)
def test_what_readers_differ_on_is_refused_in_an_untyped_option(tmp_path, written, expected):
    models = {**BASE["models"], "m": _OPENAI}
    path = write_sweep(tmp_path, models=models)
    override = refused(path, f"models.m.extra_body.top_k={written}")
    assert f"override 'models.m.extra_body.top_k={written}': " in override
    grid = {**BASE["grid"], "models.m.extra_body.top_k": [1]}
    axis = write_sweep(tmp_path, models=models, grid=grid, name="axis.yaml")
    axis.write_text(axis.read_text().replace("top_k:\n  - 1", f"top_k:\n  - {written}"))
    assert expected in refused(axis)
    path.write_text(path.read_text().replace("top_k: here", f"top_k: {written}"))
    message = refused(path)
    assert expected in message
    assert message.startswith(f"{path}:{line_of(path, 'top_k')}: models.m.extra_body.top_k")


@pytest.mark.parametrize("written", ["on", "yes", "true", "Off", "false"])
def test_a_flag_takes_the_words_that_yaml_once_had(tmp_path, written):
    path = _with(tmp_path, f"simulator: {{leak_guard: {written}}}\n")
    assert plan_of(path).cells
    assert "expected true or false, found 'maybe'" in refused(path, "simulator.leak_guard=maybe")


@pytest.mark.parametrize("name", ["on", "null", "1.10", "0123456", "2026-01-05", "12-30", "1e1"])
def test_names_are_text_as_they_are_written_where_they_are_keys(tmp_path, name):
    path = edited(tmp_path, "  strong:\n", f"  {name}:\n    backend: rules\n  strong:\n")
    plan = plan_of(path, f'roles.user="{name}"')
    assert plan.cells[0].roles["user"] == name


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024", 'expected text, found 2024; put it in quotes: "2024"'),
        ("0123456", 'expected text, found 0123456; put it in quotes: "0123456"'),
        ("1e1", 'expected text, found 1e1; put it in quotes: "1e1"'),
        ("~", 'expected text, found ~; put it in quotes: "~"'),
        ("null", 'expected text, found null; put it in quotes: "null"'),
        ("true", 'expected text, found true; put it in quotes: "true"'),
        ("", "expected text, found nothing"),
        ("[a]", "expected text, found ['a']"),
        ("12:30", "expected at most 100 letters, digits, '.', '_' and '-', beginning with"),
        ("a/b", "found 'a/b'"),
        ("..", "found '..'"),
        ('"a\\nb"', r"found 'a\nb'"),
        ("🎬", "found '🎬'"),
        ("x" * 300, "found 'xxx"),
        ("''", "found ''"),
    ],
)
def test_a_name_that_is_no_text_or_no_name_says_what_to_do(tmp_path, written, expected):
    path = edited(tmp_path, "name: small", f"name: {written}")
    message = refused(path)
    assert f"name: {expected}" in message or expected in message
    assert len(message) < 400
    line = path.read_text().splitlines().index(f"name: {written}") + 1
    assert message.startswith(f"{path}:{line}: name: ")
    model = edited(
        tmp_path, "  strong:\n", f"  {written or '~x'}:\n    backend: rules\n  strong:\n"
    )
    if written in ("a/b", "..", "🎬", "x" * 300, '"a\\nb"', "12:30"):
        assert "expected at most 100 letters" in refused(model)


@pytest.mark.parametrize("written", ["on", "'2024'", "2026-01-05", "'null'", "off"])
def test_text_that_yaml_once_read_otherwise_is_a_name(tmp_path, written):
    path = edited(tmp_path, "name: small", f"name: {written}")
    name = written.strip("'")
    assert plan_of(path).loaded.header.name == name
    assert plan_of(path, f"name={written}").loaded.header.name == name


def test_an_override_says_how_to_quote_for_the_shell(tmp_path):
    message = refused(write_sweep(tmp_path), "name=2024")
    assert """put it in quotes within quotes: 'name="2024"'""" in message
    assert plan_of(write_sweep(tmp_path), 'name="2024"').loaded.header.name == "2024"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a ${b} c", "there is no key 'b', found 'a ${b} c'"),
        ("${rolse.user}", "there is no key 'rolse.user'; did you mean 'roles.user'?"),
        ("{% if x %}${{ y }}{% endif %}", "cannot be read as a reference ${...}"),
        ("${", "cannot be read as a reference ${...}"),
        ("${range:x}", "range takes one to three whole numbers, found x"),
        ("${range:0,1e9}", "a range holds at most 1,000,000 numbers"),
        ("${range:0,100000000000000000000000}", "a range holds at most 1,000,000 numbers"),
        ("${models.m.extra_body.template}", "ecursive interpolation"),
    ],
)
def test_a_reference_that_leads_nowhere_says_how_text_is_kept(tmp_path, written, expected):
    models = {**BASE["models"], "m": {**_OPENAI, "extra_body": {"template": written}}}
    path = write_sweep(tmp_path, models=models)
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'template')}: models.m.extra_body.template: ")
    assert expected in message
    assert message.endswith(r"; to keep it as text, write \${ for ${ (\\${ in double quotes)")


def test_a_reference_in_an_axis_is_named_with_its_line(tmp_path):
    path = edited(
        tmp_path, "  roles.agent:\n", "  roles.agent.planner: [strong, '${wek}']\n  roles.agent:\n"
    )
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'planner')}: grid.roles.agent.planner.1: ")


@pytest.mark.parametrize("text", [r"\${b}", r"{{ \${x:y} }}", r"\${oc.env:NO_SUCH_NAME}"])
def test_text_behind_a_backslash_is_no_reference(tmp_path, text):
    models = {**BASE["models"], "m": {**_OPENAI, "extra_body": {"template": text}}}
    loaded = plan_of(write_sweep(tmp_path, models=models)).loaded
    assert loaded.cell["models"]["m"]["extra_body"]["template"] == text.replace("\\", "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "{path}: the file is empty"),
        (b"# nothing\n", "{path}: the file is empty"),
        (b"- a\n", "{path}:1: a sweep file is a mapping of keys, found a list"),
        (b"7\n", "{path}:1: a sweep file is a mapping of keys, found the number 7"),
        (b"name: \xff\n", "{path}: the sweep file is not UTF-8 text (byte 0xff at 6)"),
        ("name: é\n".encode("utf-16"), "{path}: the sweep file is not UTF-8 text (byte 0xff at 0)"),
        (b"name: a\nmodels: &x [*x]\n", "{path}:2: invalid YAML: an alias"),
        (b"name: a\n\tout: b\n", "{path}:2: invalid YAML: a tab"),
        (b"a: " + b"[" * 200, "{path}:1: invalid YAML: is nested"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused_in_one_line(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert refused(path).startswith(expected.format(path=path))
    good = write_sweep(tmp_path)
    assert refused(good, str(path)).startswith(expected.format(path=path))  # among overrides
    child = tmp_path / "child.yaml"
    child.write_text("extends: bad.yaml\n")
    assert refused(child).startswith(expected.format(path=path))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = write_sweep(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert plan_of(path).loaded.header.name == "small"


def test_a_path_that_is_no_file_is_refused_in_one_line(tmp_path):
    write_sweep(tmp_path)
    assert (
        refused(tmp_path)
        == f"expected a sweep file, found the folder {tmp_path} (it holds sweep.yaml)"
    )
    assert "cannot be read: File name too long" in refused(tmp_path / ("x" * 300))
    assert "U+0000" in refused(type(tmp_path)("a\0b"))
    (tmp_path / "locked.yaml").symlink_to("locked.yaml")
    assert "cannot be read" in refused(tmp_path / "locked.yaml")


@pytest.mark.parametrize("from_file", [True, False])
def test_a_leading_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch, from_file):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    write_ml100k(home / "ml")
    prompts = home / "prompts"
    shutil.copytree("agents/zero_shot/prompts", prompts)
    wanted = {"out": "~/out", "cache.path": "~/calls", "cache.journal": "~/journal",
              "artifacts.path": "~/artifacts", "domain.path": "~/ml",
              "grid.agent": [{"name": "zero_shot", "prompts": "~/prompts"}]}  # fmt: skip
    domain = {"name": "movielens", "path": "/nowhere", "k_core": 0}
    path = write_sweep(tmp_path, cases={"sample": 1}, domain=domain)
    overrides = [f"{key}={json.dumps(value)}" for key, value in wanted.items()]
    if from_file:
        (home / "over.yaml").write_text(yaml.safe_dump(
            {"out": "~/out", "domain": {"path": "~/ml"}, "artifacts": {"path": "~/artifacts"},
             "cache": {"path": "~/calls", "journal": "~/journal"},
             "grid": {"agent": wanted["grid.agent"]}}
        ))  # fmt: skip
        (home / "child.yaml").write_text(f"extends: {path}\n")
        plan = plan_of(type(path)("~/child.yaml"), "~/over.yaml")
    else:
        plan = plan_of(path, *overrides)
    header = plan.loaded.header
    assert str(plan.loaded.out) == str(home / "out")
    assert header.cache.path == str(home / "calls")
    assert header.cache.journal == str(home / "journal")
    assert header.artifacts.path == str(home / "artifacts")
    assert str(folder_of("~/calls")) == header.cache.path
    assert str(folder_at("~/out")) == str(home / "out")
    assert str(folder_at(type(path)("~/out"))) == str(home / "out")
    assert plan.sources[0].domain.options.path == home / "ml"
    # What is stored is as it was written: another person's home is another folder.
    assert plan.loaded.recorded["out"] == "~/out"
    assert "~nobody-of-this-name" in refused(path, "out=~nobody-of-this-name/x")
    assert load(path, ["out=$HOME/x"]).header.out == "$HOME/x"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"a\\nb"', "a path with line breaks or other control characters is not supported"),
        ('"\\x1b[31m"', "a path with line breaks or other control characters is not supported"),
        ('"a\\0b"', "no path holds the character U+0000"),
        ("x" * 300, "a name in a path has at most 255 bytes, here 300"),
        ("é" * 128, "a name in a path has at most 255 bytes, here 256"),
        ("''", "expected text that is not empty"),
        ("~", 'expected text, found ~; put it in quotes: "~"'),
        ("http://x/y", "expected a local path, file:// or s3://, found http://"),
        ("file://host/x", "expected file:///a/path without %, ? and #, found file://host/x"),
        ("file:///a%20b", "expected file:///a/path without %, ? and #"),
        ("s3://", "expected s3://bucket/prefix, found s3://"),
        ("s3://a b/c", "expected s3://bucket/prefix, found s3://a b/c"),
        ("s3://a/b/../../c", "expected s3://bucket/prefix, found s3://a/b/../../c"),
        ("s3://a/b//c", "expected s3://bucket/prefix, found s3://a/b//c"),
        ("s3://{a}/c", "expected s3://bucket/prefix, found s3://{a}/c"),
    ],
)
def test_an_output_folder_that_cannot_be_is_refused(tmp_path, written, expected):
    path = write_sweep(tmp_path)
    text = re.sub(
        r"^out: .*$", "out: " + written.replace("\\", "\\\\"), path.read_text(), flags=re.M
    )
    path.write_text(text)
    message = refused(path)
    assert message.startswith(f"{path}:{line_of(path, 'out: ')}: out: {expected}")


@pytest.mark.parametrize(
    "name",
    [
        "a*b",
        "a?b",
        "[a]",
        "a'b",
        'a"b',
        "a#b",
        "a%20b",
        "a b",
        "é😀",
        "{a,b}",
        "$x",
        "a;b&c=d",
        "x" * 255,
    ],
)
def test_an_output_folder_may_have_any_other_name(tmp_path, name):
    assert plan_of(write_sweep(tmp_path, out=f"{tmp_path}/{name}")).loaded.out.path.name == name


def test_what_an_override_leaves_of_a_mapping_keeps_its_place_in_the_file(tmp_path):
    path = write_sweep(tmp_path)
    message = refused(path, "domain={name: movielens, path: /nowhere}")
    assert message.startswith(f"{path}:{line_of(path, 'history')}: domain.history: unknown key")
    assert "override 'cases={sample: x}': cases.sample" in refused(path, "cases={sample: x}")


def test_a_long_override_is_cut_in_messages(tmp_path):
    message = refused(write_sweep(tmp_path), "name=" + "x" * 10_000)
    assert len(message) < 500
