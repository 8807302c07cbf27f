"""What `crsweep submit` sends, and what it refuses to send."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from agents.core.errors import UsageError
from runner.commands.submit import make_submission
from runner.core.sent import FILE, altered, sent_package
from runner.submit import package as packages
from runner.submit.files import sources_of
from tests.conftest import ROOT
from tests.sweep_files import write_sweep
from workers.core.code import PACKAGES, code_digest

OUT = "/shared/results/small"
FIXED = {"crsweep-0.1.0.dist-info/METADATA", "crsweep-0.1.0.dist-info/entry_points.txt"}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A sweep with a base, an overlay, a prompt folder and a plug-in, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_sweep(tmp_path, name="base.yaml")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/mine.yaml").write_text(f"extends: ../base.yaml\nname: mine\nout: {OUT}\n")
    (tmp_path / "sweeps/laptop.yaml").write_text("cases: {sample: 2}\n")
    lab = tmp_path / "outside_lab_7c"
    (lab / "prompts").mkdir(parents=True)
    (lab / "__init__.py").write_text("")
    (lab / "planner.py").write_text("VALUE = 1\n")
    (lab / "prompts/recommend.md.j2").write_text("{{ conversation }}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/u.data").write_text("1\t2\t3\n")
    (tmp_path / ".env").write_text("KEY=1\n")
    return tmp_path / "sweeps/mine.yaml"


def sent(submission) -> set[str]:
    return set(submission.package.content)


def core_files() -> set[str]:
    return set(sources_of(ROOT, PACKAGES).files) | FIXED


def test_the_package_has_exactly_the_code_the_sweep_and_what_it_extends(sweep):
    submission = make_submission(sweep, ["sweeps/laptop.yaml", "cases.sample=3"])
    extra = {"sweep/base.yaml", "sweep/sweeps/mine.yaml", "sweep/sweeps/laptop.yaml"}
    assert sent(submission) == core_files() | extra
    assert submission.words("run") == [
        "python", "-m", "runner", "run", "sweep/sweeps/mine.yaml", "sweep/sweeps/laptop.yaml",
        "cases.sample=3", "run.executor=ray", "run.ray_address=auto",
    ]  # fmt: skip


def test_prompt_folders_and_plug_ins_that_the_sweep_names_are_sent(sweep):
    overrides = [
        "grid.agent=[{name: zero_shot, prompts: outside_lab_7c/prompts}, outside_lab_7c.planner]"
    ]
    submission = make_submission(sweep, overrides)
    assert sent(submission) - core_files() == {
        "sweep/base.yaml", "sweep/sweeps/mine.yaml", "outside_lab_7c/__init__.py",
        "outside_lab_7c/planner.py", "outside_lab_7c/prompts/recommend.md.j2",
    }  # fmt: skip
    assert submission.package.installed == []


def test_an_installed_plug_in_is_named_and_not_sent(sweep):
    submission = make_submission(sweep, ["grid.agent=[jinja2.nodes]"])
    assert submission.package.installed == ["jinja2"]
    assert not any(name.startswith("jinja2/") for name in sent(submission))


def test_a_sweep_of_the_checkout_stays_where_it_is(tmp_path):
    submission = make_submission(ROOT / "sweeps/quickstart.yaml", [], out=OUT)
    assert submission.package.sweep == "sweeps/quickstart.yaml"
    assert sent(submission) == core_files()
    assert submission.words("run")[5:] == [f"out={OUT}", "run.executor=ray", "run.ray_address=auto"]


def test_the_archive_says_what_it_holds_and_is_the_same_each_time(sweep, tmp_path):
    package = make_submission(sweep, []).package
    archive = package.archive("crsweep submit x")
    assert archive == make_submission(sweep, []).package.archive("crsweep submit x")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert set(files.namelist()) == {*package.content, FILE}
        files.extractall(tmp_path / "there")
    there = tmp_path / "there"
    found = sent_package(there)
    assert found is not None
    assert (found.revision, found.dirty) == (package.revision, package.dirty)
    assert json.loads((there / FILE).read_text())["digest"] == found.digest
    assert altered(there) is None
    assert code_digest(there) == code_digest(ROOT)


def test_a_package_that_changed_on_its_way_is_refused(sweep, tmp_path):
    with zipfile.ZipFile(io.BytesIO(make_submission(sweep, []).package.archive(""))) as files:
        files.extractall(tmp_path / "there")
    (tmp_path / "there/agents/core/ask.py").write_text("")
    assert "agents/core/ask.py differs" in (altered(tmp_path / "there") or "")
    sent_package.cache_clear()
    (tmp_path / "there/agents/core/ask.py").unlink()
    assert "is incomplete: agents/core/ask.py" in (altered(tmp_path / "there") or "")
    assert altered(ROOT) is None


def test_a_package_above_the_limit_is_refused_with_its_largest_files(sweep, monkeypatch):
    package = make_submission(sweep, []).package
    package.content["big.bin"] = bytes(3_000_000)
    monkeypatch.setattr(packages, "LARGEST", 1000)
    with pytest.raises(UsageError, match=r"the limit of 0.0 MiB.*files are big.bin \(2.9"):
        package.archive("")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=results/x"], "out: .*results/x is relative to the working folder of this machine"),
        (["out=/tmp/x"], "/tmp/x is local to each node; pass --out URI"),
        (["out=file:///dev/shm/x"], "is local to each node"),
        (["cache.path=calls"], "calls is relative .*; give a folder that all nodes mount"),
        (["cache.path=/var/tmp/c"], "/var/tmp/c is local to each node"),
        (["cache.journal=/tmp/j"], "/tmp/j is local to each node"),
        (["artifacts.path=/tmp/a"], "/tmp/a is local to each node"),
        (["grid.agent=[{name: zero_shot, prompts: /abs/p}]"], "the cluster has no /abs/p"),
        (["grid.agent=[{name: zero_shot, prompts: ../p}]"], "the cluster has no ../p"),
        (["grid.agent=[{name: zero_shot, prompts: nothing}]"], "nothing is not a folder"),
        (["grid.agent=[no_such_lab.planner]"], "'no_such_lab', which cannot be imported here"),
    ],
)  # fmt: skip
def test_what_the_cluster_would_not_have_is_refused(sweep, overrides, message):
    with pytest.raises(UsageError, match=message):
        make_submission(sweep, overrides)


def test_out_may_be_anywhere_if_it_is_given_as_an_option(sweep):
    assert make_submission(sweep, [], out="/tmp/x").out == "/tmp/x"
    assert make_submission(sweep, ["out=results"], writes=False).out == "results"
    with pytest.raises(UsageError, match="is relative"):
        make_submission(sweep, [], out="results/x")


def test_an_absolute_base_is_refused(sweep, tmp_path):
    sweep.write_text(f"extends: {tmp_path}/base.yaml\nname: mine\nout: {OUT}\n")
    with pytest.raises(UsageError, match="give a path relative to the file"):
        make_submission(sweep, [])


def test_variables_are_resolved_on_the_cluster(sweep, monkeypatch):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    monkeypatch.setenv("SET_HERE", "only-here")
    sweep.write_text(
        "extends: ../base.yaml\nname: mine\nout: '${oc.env:NOT_SET_HERE}/mine'\n"
        "domain: {name: movielens, path: '${oc.env:SET_HERE}/ml-1m'}\n"
    )
    submission = make_submission(sweep, ["cache.path=${oc.env:NOT_SET_HERE}/calls"])
    assert submission.out == "${oc.env:NOT_SET_HERE}/mine"
    assert submission.overrides == ["cache.path=${oc.env:NOT_SET_HERE}/calls"]
    assert not any(b"only-here" in content for content in submission.package.content.values())


def test_send_env_needs_a_variable_that_is_set(sweep, monkeypatch):
    monkeypatch.setenv("SET_HERE", "value")
    assert make_submission(sweep, [], send_env=["SET_HERE"]).variables == {"SET_HERE": "value"}
    with pytest.raises(UsageError, match="--send-env NOT_SET: this variable is not set here"):
        make_submission(sweep, [], send_env=["NOT_SET"])


def test_the_packages_are_those_that_the_start_checks():
    from runner import entry

    assert entry.PACKAGES == PACKAGES
    assert Path(sys.modules["runner.core.sent"].__file__ or "").is_relative_to(ROOT)
