"""Paths in sweep files: the file itself, the home folder, the output folder."""

import json
import re
import shutil

import pytest
import yaml

from runner.core.locations import call_cache_folder
from sweeps.load import load
from sweeps.storage.folder import folder_at
from tests.fixtures_movielens import write_ml100k
from tests.sweep_files import plan_of, write_sweep
from tests.sweeps.mistakes import line_of, refused


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
    domain = {"name": "movielens", "path": "/missing", "k_core": 0}
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
    assert str(call_cache_folder("~/calls")) == header.cache.path
    assert str(folder_at("~/out")) == str(home / "out")
    assert str(folder_at(type(path)("~/out"))) == str(home / "out")
    assert plan.sources[0].domain.options.path == home / "ml"
    # What is stored is as it was written: another person's home is another folder.
    assert plan.loaded.recorded["out"] == "~/out"
    assert "~no-such-user" in refused(path, "out=~no-such-user/x")
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
