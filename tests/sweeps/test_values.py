"""What a value of a sweep file is read as: numbers, flags, names, text and references."""

import pytest

from tests.sweep_files import BASE, plan_of, write_sweep
from tests.sweeps.mistakes import OPENAI, edited, line_of, refused


def test_a_chat_template_that_looks_like_a_resolver_is_refused_with_how_to_escape_it(tmp_path):
    path = write_sweep(tmp_path, name="x.yaml", out="${foo:1}")
    assert r"to keep it as text, write \${ for ${" in refused(path)
    path = write_sweep(tmp_path, name="x.yaml", out="${oc.env:NO_SUCH_ROOT_1}")
    assert r"to keep it as text, write \${ for ${" in refused(path)


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    ("written", "value"),
    [("1e1", 10.0), ("1E5", 1e5), ("1_000", 1000), (".5e3", 500.0), ("0o17", 15), ("0x1f", 31),
     ("'on'", "on"), ('"0123"', "0123"), ("12:30", "12:30"), ("2026-01-05", "2026-01-05"),
     ("null", None), ("[1e1, {b: 0x1f}]", [10.0, {"b": 31}])],
)  # fmt: skip
def test_a_number_in_an_untyped_option_is_a_number(tmp_path, written, value, override):
    models = {**BASE["models"], "m": OPENAI}
    path = write_sweep(tmp_path, models=models)
    if override:
        loaded = plan_of(path, f"models.m.extra_body.top_k={written}").loaded
    else:
        path.write_text(path.read_text().replace("top_k: here", f"top_k: {written}"))
        loaded = plan_of(path).loaded
    assert loaded.cell["models"]["m"]["extra_body"]["top_k"] == value


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
    models = {**BASE["models"], "m": OPENAI}
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
    path = write_sweep(tmp_path)
    path.write_text(path.read_text() + f"simulator: {{leak_guard: {written}}}\n")
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
def test_a_broken_reference_says_how_text_is_kept(tmp_path, written, expected):
    models = {**BASE["models"], "m": {**OPENAI, "extra_body": {"template": written}}}
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
    models = {**BASE["models"], "m": {**OPENAI, "extra_body": {"template": text}}}
    loaded = plan_of(write_sweep(tmp_path, models=models)).loaded
    assert loaded.cell["models"]["m"]["extra_body"]["template"] == text.replace("\\", "")
