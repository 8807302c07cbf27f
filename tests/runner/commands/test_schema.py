"""The JSON schema of sweep files: it takes what a sweep may be, and names what it may not."""

import json
import re

import jsonschema
import jsonschema.exceptions
import pytest
import yaml

from agents.core import plugins
from agents.policies.core.network import POLICIES
from agents.recommenders.core import RECOMMENDERS
from analysis.metrics.core import METRICS
from runner.cli.main import main
from runner.commands.schema import sweep_schema
from simulators.core.critic import CRITICS
from sweeps.document import parse_document
from sweeps.sources import DOMAINS
from sweeps.speakers import AGENTS, USERS
from tests.conftest import ROOT
from tests.sweep_files import BASE
from workers.models import BACKENDS

FILE = ROOT / "sweeps/schema.json"
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))
SCHEMA = sweep_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def mistakes(text: str) -> list[str]:
    found = []
    for error in VALIDATOR.iter_errors(parse_document(text).value):
        worst = jsonschema.exceptions.best_match([error])
        assert worst is not None
        found.append(f"{'.'.join(map(str, worst.absolute_path))}: {worst.message}")
    return found


def test_the_committed_schema_is_current():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(FILE.read_text()) == SCHEMA, "run `crsweep schema > sweeps/schema.json`"


def test_the_command_prints_it(capsys):
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text()


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_shipped_sweep_names_the_schema_and_fits_it(path):
    text = path.read_text()
    first = text.splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named is not None, first
    assert (path.parent / named[1]).resolve() == FILE
    assert mistakes(text) == []


def test_the_sweeps_of_docs_and_of_tests_fit_it():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    blocks = [b for page in pages for b in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)]
    assert len(blocks) >= 3
    for text in [*blocks, yaml.safe_dump({**BASE, "out": "x"})]:
        assert mistakes(text) == [], text


@pytest.mark.parametrize(
    ("kind", "package", "key"),
    [("agent", AGENTS, "name"), ("simulator", USERS, "name"), ("domain", DOMAINS, "name"),
     ("critic", CRITICS, "name"),
     ("recommender", RECOMMENDERS, "name"), ("network", POLICIES, "name"),
     ("model", BACKENDS, "backend")],
)  # fmt: skip
def test_it_knows_every_option_of_every_plug_in(kind, package, key):
    definition = SCHEMA["definitions"][kind]
    known = {
        each["if"]["properties"][key]["const"]: set(each["then"]["properties"])
        for each in definition["allOf"]
    }
    shared = {key, "price"} if kind == "model" else {key}
    assert known == {
        name: shared | set(plugins.load(package, name, kind).Options.model_fields)
        for name in plugins.names(package)
    }


def test_it_knows_every_metric():
    for name in plugins.names(METRICS):
        assert mistakes(f"metrics: [{name}@5, {name}_completed@5]") == []


@pytest.mark.parametrize(
    "text",
    [
        "agent: my_lab.planner",
        "agent: {name: my_lab.planner, anything: 3}",
        "agent: ${vars.agent}",
        "agent: {name: react, max_thoughts: '${vars.n}'}",
        "agent: {name: '${vars.agent}', whatever: 1}",
        "agent: {name: macrec, recommender: sasrec}",
        "agent: {name: macrec, recommender: {name: sasrec, max_length: 50}}",
        "agent: {history_turns: 3}",
        "simulator: {leak_guard: true}",
        "domain: {path: '${oc.env:X}/y', k_core: 3}",
        "grid: {seed: '${range:0,5}', limits.max_turns: [1e1], roles.agent.planner: [a]}",
        "grid: {models.w1.5.skill: [0.1], models.m.sampling.temperature: [0, 1]}",
        "grid: {agent: [react, {name: react, max_thoughts: 2}], domain.k_core: [5, 10]}",
        "grids: [{agent: [react]}, {seeds.training: [1, 2]}]",
        "zip: [{seed: [0, 1], roles.agent: [a, b]}]",
        "exclude: [{agent: react, roles.agent: weak}]",
        "models: {'on': {backend: rules}, w1.5: {backend: vllm, model: x, engine: {a: 1}}}",
        "models: {m: {backend: openai, model: x, price: {input: 1, output: 0.5}}}",
        "models: {m: {skill: 0.5}}",
        "models: {m: {backend: my_lab.backend, x: 1}}",
        "critic: rewarder", "critic: {name: rewarder, samples: 3, values: [0, 0, 0, 1, 1]}",
        "roles: {critic: x}", "grid: {critic: [rewarder], critic.samples: [1, 2]}",
        "cache: off", "cache: false", "cache: {mode: off, path: ~/x}",
        "cases: {sample: null}", "cases: {sample: '${oc.env:N}'}",
        "metrics: [sr@5, sr_clean_completed@5, hr@50_turn]",
        "extends: base.yaml", "vars: {a: [1, {b: 2}]}",
        "max_failed: 0.1\ncaps: {tokens: 50_000_000}\nrun: {executor: local}\nseed: 3",
    ],
)  # fmt: skip
def test_what_a_sweep_may_say_fits_it(text):
    assert mistakes(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agnt: x", ": Additional properties are not allowed ('agnt' was unexpected)"),
        ("agent: zero_shoot", "agent: 'zero_shoot' does not match"),
        ("agent: {name: react, max_thougths: 3}", "'max_thougths' was unexpected"),
        ("agent: {max_thougths: 3}", "'max_thougths' is not one of"),
        ("agent: {name: macrec, recommender: {name: sasrec, lengh: 3}}", "'lengh' was unexpected"),
        ("models: {m: {backend: rules, skil: 1}}", "models.m: Additional properties are not"),
        ("models: {m: {backend: rules, skill: 2}}", "models.m.skill: 2 is greater than"),
        ("models: {a/b: {backend: rules}}", "models: 'a/b' does not match"),
        ("models: {m: {backend: ruls}}", "models.m.backend: 'ruls' is not"),
        ("grid: {agnt: [x]}", "grid: 'agnt' does not match any of the regexes"),
        ("grid: {models.m.skil: [1]}", "grid: 'models.m.skil' does not match any"),
        ("grid: {seed: 3}", "grid.seed: 3 is not of type 'array', 'string'"),
        ("grid: {seed: [a]}", "grid.seed.0: 'a' does not match"),
        ("grid: {cases.sample: [1]}", "grid: 'cases.sample' does not match any"),
        ("limits: {max_turn: 3}", "limits: Additional properties are not allowed"),
        ("limits: {max_turns: ten}", "limits.max_turns: 'ten' does not match"),
        ("cache: {mode: of}", "cache.mode: 'of' is not"),
        ("roles: {agnt: x}", "roles: 'agnt' does not match"),
        ("critic: {name: rewarder, sample: 3}", "'sample' was unexpected"),
        ("grid: {roles.judge: [x]}", "grid: 'roles.judge' does not match any"),
        ("judges: [relevence]", "judges.0: 'relevence' does not match"),
        ("seeds: {ordr: 1}", "'ordr' was unexpected"),
        ("grid: {seeds.ordr: [1]}", "grid: 'seeds.ordr' does not match any"),
        ("metrics: [srr@5]", "metrics.0: 'srr@5'"),
        ("name: a/b", "name: 'a/b'"),
        ("exclude: [{agnt: react}]", "exclude.0: 'agnt' does not match any"),
    ],
)  # fmt: skip
def test_what_a_sweep_may_not_say_is_named_with_its_place(text, expected):
    (found,) = mistakes(text)
    assert expected in found
