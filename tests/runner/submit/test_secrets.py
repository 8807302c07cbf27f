"""A marked secret is looked for in everything that would be sent."""

from __future__ import annotations

import pytest

from agents.core.errors import UsageError
from runner.commands.submit import make_submission
from tests.sweep_files import write_sweep

MARK = "marked-secret-8f31"
OUT = "/shared/results/x"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_sweep(tmp_path, out=OUT, vars={"note": "none", "where": "x"})


def refusal(sweep, *overrides: str) -> str:
    with pytest.raises(UsageError) as e:
        make_submission(sweep, list(overrides))
    assert MARK not in e.value.message
    assert "run.env_from" in e.value.message
    return e.value.message


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "AWS_ACCESS_KEY_ID"])
def test_the_value_of_a_secret_variable_is_refused_as_an_override(sweep, monkeypatch, name):
    monkeypatch.setenv(name, MARK)
    message = refusal(sweep, f"vars.note=a {MARK}")
    assert f"override vars.note: the value of the environment variable {name}" in message


def test_values_of_env_from_variables_are_refused_too(sweep, monkeypatch):
    monkeypatch.setenv("WHATEVER", MARK)
    message = refusal(sweep, "run.env_from=[WHATEVER]", f"vars.note={MARK}")
    assert "WHATEVER" in message


def test_addresses_with_a_login_and_keys_called_so_are_refused_too(sweep):
    login = f"http://me:{MARK}@host/v1"
    assert "an address with a user name" in refusal(sweep, f"vars.where={login}")
    for name in ("api_key", "password", "hf_token", "client_secret", "Authorization"):
        given = f"models.strong={{backend: rules, extra_body: {{{name}: {MARK}}}}}"
        assert name in refusal(sweep, given) or "extra_body" in refusal(sweep, given)


def test_a_secret_in_a_file_is_refused_with_the_name_of_the_file(sweep, monkeypatch):
    monkeypatch.setenv("MY_KEY", MARK)
    sweep.write_text(f"{sweep.read_text()}# {MARK}\n")
    assert "sweep/sweep.yaml holds the value of the environment variable MY_KEY" in refusal(sweep)


def test_a_setting_that_looks_like_a_secret_is_refused(sweep):
    sweep.write_text(sweep.read_text().replace("note: none", f"password: {MARK}"))
    assert "vars.password: this looks like a secret" in refusal(sweep)


def test_a_reference_to_a_variable_is_sent_as_it_is_written(sweep, monkeypatch):
    monkeypatch.setenv("MY_KEY", MARK)
    submission = make_submission(sweep, ["run.env_from=[MY_KEY]", "vars.note=${oc.env:MY_KEY}"])
    assert submission.overrides[1] == "vars.note=${oc.env:MY_KEY}"
    archive = submission.package.archive("crsweep submit 'vars.note=${oc.env:MY_KEY}'")
    assert MARK.encode() not in archive
    assert not any(MARK.encode() in content for content in submission.package.content.values())


def test_words_that_are_not_secret_pass(sweep, monkeypatch):
    monkeypatch.setenv("TOKEN_LIMIT", "cases.sample")
    monkeypatch.setenv("SHORT_KEY", "small")
    assert (
        make_submission(sweep, ["cases.sample=3", "caps.tokens=1000"]).overrides[0]
        == "cases.sample=3"
    )
