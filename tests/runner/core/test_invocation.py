"""Commands that are printed can be copied: each is what was typed, as it was typed."""

import pytest

from runner.core import invocation


@pytest.fixture
def typing(monkeypatch):
    def given(argv, orig=None):
        monkeypatch.setattr("sys.argv", argv)
        monkeypatch.setattr("sys.orig_argv", orig or ["/usr/bin/python3", *argv])

    return given


def test_the_interpreter_is_shown_as_it_was_called(typing):
    typing(["/src/runner/__main__.py", "run", "a b.yaml"],
           [".venv/bin/python", "-X", "dev", "-m", "runner", "run", "a b.yaml"])  # fmt: skip
    assert invocation.command() == ".venv/bin/python -X dev -m runner run 'a b.yaml'"
    assert invocation.program() == ".venv/bin/python -X dev -m runner"


def test_the_script_is_shown_alone(typing):
    typing(["/my venv/bin/crsweep", "run", "x.yaml"])
    assert invocation.command() == "'/my venv/bin/crsweep' run x.yaml"


def test_overrides_take_the_place_of_those_for_the_same_path(typing):
    typing(["crsweep", "run", "x.yaml", "caps.tokens=5", "caps.cost=2"])
    assert invocation.command(["caps.tokens=9"]) == "crsweep run x.yaml caps.cost=2 caps.tokens=9"
    assert invocation.command() == "crsweep run x.yaml caps.tokens=5 caps.cost=2"


def test_retries_are_left_out_where_others_follow(typing):
    typing(["crsweep", "run", "--retry", "agent", "x.yaml", "--retry=user", "cases.sample=2"])
    assert invocation.command(retries=False) == "crsweep run x.yaml cases.sample=2"


@pytest.mark.parametrize("login", ["ann:pa@ss", "ann", "a%3Ab:", ":x@y"])
def test_no_login_of_an_address_reaches_a_file(login):
    words = f"crsweep run a.yaml 'models.m.base_url=https://{login}@host:1/v1' x=http://b/v1"
    found = invocation.for_a_file(words)
    assert found == words.replace(login, "***")
