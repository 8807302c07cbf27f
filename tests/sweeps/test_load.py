"""What a sweep file, the files it extends and its overrides come to."""

import time

import pytest
import yaml

from agents.core.errors import UsageError
from sweeps.load import load
from tests.sweep_files import BASE, plan_of, write_sweep
from tests.sweeps.mistakes import refused


def test_overrides_change_values_and_add_axes(tmp_path):
    path = write_sweep(tmp_path)
    plan = plan_of(path, "cases.sample=2", "grid.seed=[0,1,2]", "grid.simulator.max_facts=[1,2]")
    assert plan.episodes == 2 * 4 * 2 * 3
    assert plan.axes == ("agent", "roles.agent", "simulator.max_facts")
    assert plan_of(path, "simulator.decides=rule").cells[0].config.simulator.options == {
        "decides": "rule"
    }


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
    for base in (".", "~no-such-user/x.yaml"):
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
    assert seconds(10_000) < 50 * seconds(1_000)


def test_roles_and_models_with_dotted_names_can_be_axes_and_overrides(tmp_path):
    grid = {"roles.agent.planner": ["strong", "weak"], "models.w1.5.skill": [0.1, 0.2]}
    models = {**BASE["models"], "w1.5": {"backend": "rules"}}
    path = write_sweep(
        tmp_path, agent="zero_shot", models=models, grid=grid,
        roles={"user": "w1.5", "agent": "weak"},
    )  # fmt: skip
    plan = plan_of(path, "roles.agent.probe=strong", "models.weak.skill=0.3")
    assert {c.axes["roles.agent.planner"] for c in plan.cells} == {"strong"}  # no agent plans yet
    assert {c.axes["models.w1.5.skill"] for c in plan.cells} == {"0.1", "0.2"}
    assert plan.cells[0].config.roles["agent.probe"] == "strong"


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
