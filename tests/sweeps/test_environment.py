"""`run.env_from`: variables that a sweep needs, and the file that may have them."""

from __future__ import annotations

import os

import pytest

from agents.core.errors import UsageError
from sweeps.load import load
from tests.sweep_files import write_sweep


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("FIRST_KEY", "first")
    monkeypatch.delenv("SECOND_KEY", raising=False)
    run = {"executor": "local", "env_from": ["FIRST_KEY", "SECOND_KEY"]}
    yield lambda **more: write_sweep(
        tmp_path, run={**run, **more}, vars={"note": "${oc.env:SECOND_KEY}"}
    )
    os.environ.pop("SECOND_KEY", None)


def test_a_missing_variable_is_named(sweep):
    with pytest.raises(UsageError, match=r"env_from: the environment variable SECOND_KEY is not"):
        load(sweep())


def test_a_file_or_a_folder_may_have_it(sweep, tmp_path):
    (tmp_path / "keys.env").write_text("# keys\nexport SECOND_KEY='s=2'\nFIRST_KEY=other\n")
    loaded = load(sweep(env_file=str(tmp_path / "keys.env")))
    assert (os.environ["FIRST_KEY"], os.environ["SECOND_KEY"]) == ("first", "s=2")
    assert loaded.recorded["vars"] == {"note": "${oc.env:SECOND_KEY}"}
    del os.environ["SECOND_KEY"]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/SECOND_KEY").write_text("from a folder\n")
    load(sweep(env_file=str(tmp_path / "keys")))
    assert os.environ["SECOND_KEY"] == "from a folder"


def test_a_file_without_it_or_no_file_is_refused(sweep, tmp_path):
    (tmp_path / "keys.env").write_text("SECOND_KEYS=marked\n")
    with pytest.raises(UsageError) as e:
        load(sweep(env_file=str(tmp_path / "keys.env")))
    assert "keys.env; did you mean 'SECOND_KEYS'" in e.value.message
    assert "marked" not in e.value.message
    with pytest.raises(UsageError, match=r"env_file: .*nothing cannot be read: No such file"):
        load(sweep(env_file=str(tmp_path / "nothing")))


def test_elsewhere_nothing_is_looked_up(sweep):
    loaded = load(sweep(), elsewhere=True)
    assert loaded.recorded["vars"] == {"note": "${oc.env:SECOND_KEY}"}


def test_names_are_checked(sweep):
    with pytest.raises(UsageError, match="env_from"):
        load(sweep(env_from=["NOT A NAME"]), elsewhere=True)
