"""The Dockerfile, read by a parser."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import tomllib

import pytest
from dockerfile_parse import DockerfileParser

from tests.conftest import ROOT
from workers.core.code import PACKAGES

FOLDER = ROOT / "deploy/docker"


@pytest.fixture(scope="module")
def steps() -> list[dict]:
    parser = DockerfileParser(fileobj=io.BytesIO((FOLDER / "Dockerfile").read_bytes()))
    return [each for each in parser.structure if each["instruction"] != "COMMENT"]


def values(steps, instruction: str) -> list[str]:
    return [each["value"] for each in steps if each["instruction"] == instruction]


def test_it_consists_of_known_instructions_and_begins_with_a_supported_python(steps):
    known = {"FROM", "RUN", "WORKDIR", "ARG", "COPY", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {each["instruction"] for each in steps} <= known
    assert steps[0]["instruction"] == "FROM"
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", steps[0]["value"])
    assert version is not None
    assert version[1] in ("3.11", "3.12", "3.13")


def test_an_init_is_pid_1(steps):
    (entrypoint,) = values(steps, "ENTRYPOINT")
    assert json.loads(entrypoint)[0] == "tini"
    assert any("tini" in value and "apt-get install" in value for value in values(steps, "RUN"))


def test_it_runs_as_a_plain_user(steps):
    assert values(steps, "USER") == ["ray"]
    after = [each["instruction"] for each in steps]
    assert "COPY" not in after[after.index("USER") :]


def test_it_copies_the_packages_and_what_installing_them_needs(steps):
    copied = [word for value in values(steps, "COPY") for word in value.split()[:-1]]
    assert set(PACKAGES) < set(copied)
    assert all((ROOT / each).exists() for each in copied)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert kept == set(copied)
    assert any(fnmatch.fnmatch("agents/.env", rule) for rule in rules[1:])


def test_it_installs_extras_that_exist_with_pinned_versions(steps):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    given = values(steps, "ARG")[0].partition("=")[2].split(",")
    assert set(given) <= set(extras["optional-dependencies"])
    assert any("pip install" in value and "-c constraints.txt" in value
               for value in values(steps, "RUN"))  # fmt: skip


def test_it_holds_no_secret(steps):
    secret = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
    for value in (*values(steps, "ENV"), *values(steps, "ARG")):
        assert not secret.search(value)
