"""Which files are sent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.submit.files import is_never_sent, revision_of, sources_of


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def git(root: Path, *words: str) -> None:
    me = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *me, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    make(root, "lab/a.py", "lab/data.bin", "lab/gone.py", "other/b.py", ".gitignore")
    (root / ".gitignore").write_text("ignored.py\nresults/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_tracked_files_are_sent_as_they_are_on_disk(checkout):
    (checkout / "lab/a.py").write_text("changed")
    (checkout / "lab/gone.py").unlink()
    found = sources_of(checkout, ["lab"])
    assert found.files == ["lab/a.py", "lab/data.bin"]
    assert found.untracked == []


def test_untracked_files_are_sent_if_they_are_sources_and_are_listed(checkout):
    make(checkout, "lab/new.py", "lab/prompt.md.j2", "lab/q.sql", "lab/s.yaml", "lab/big.parquet",
         "lab/ignored.py", "lab/results/r.yaml")  # fmt: skip
    found = sources_of(checkout, ["lab"])
    new = ["lab/new.py", "lab/prompt.md.j2", "lab/q.sql", "lab/s.yaml"]
    assert found.untracked == new
    assert set(found.files) == {"lab/a.py", "lab/data.bin", "lab/gone.py", *new}


def test_without_git_the_suffixes_decide(tmp_path):
    make(tmp_path, "lab/a.py", "lab/p.j2", "lab/data.bin", "lab/__pycache__/a.py", "lab/.git/x.py",
         "analysis/published/t.csv", "analysis/other.csv")  # fmt: skip
    found = sources_of(tmp_path, ["lab", "analysis"])
    assert found.files == ["analysis/published/t.csv", "lab/a.py", "lab/p.j2"]


def test_keys_and_links_out_of_the_folder_are_never_sent_even_if_tracked(checkout, tmp_path):
    make(tmp_path, "secret.py")
    make(checkout, "lab/.env", "lab/.env.prod", "lab/server.pem", "lab/id_ed25519", "lab/own.py")
    (checkout / "lab/link.py").symlink_to(tmp_path / "secret.py")
    (checkout / "lab/inside.py").symlink_to("own.py")
    git(checkout, "add", "-f", ".")
    found = sources_of(checkout, ["lab"])
    left_out = ["lab/.env", "lab/.env.prod", "lab/id_ed25519", "lab/link.py", "lab/server.pem"]
    assert found.left_out == left_out
    assert set(found.files) >= {"lab/inside.py", "lab/own.py"}
    assert not set(found.files) & set(left_out)


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("a/.env", True), ("a/prod.env", True), ("a/x.key", True), ("credentials.json", True),
        ("secrets.yaml", True), (".netrc", True), ("service-account-1.json", True),
        ("a/.git/config", True), ("credentials.py", False), ("a/keys.py", False),
        ("a/environment.py", False), ("secrets.py", False), ("token.j2", False),
    ],
)  # fmt: skip
def test_names_of_key_files(name, never):
    assert is_never_sent(name) is never


def test_the_revision_and_whether_there_are_changes(checkout, tmp_path):
    revision, dirty = revision_of(checkout)
    assert revision is not None
    assert len(revision) == 40
    assert dirty is False
    (checkout / "lab/a.py").write_text("changed")
    assert revision_of(checkout) == (revision, True)
    (tmp_path / "none").mkdir()
    assert revision_of(tmp_path / "none") == (None, None)
