"""Folders as people name them: paths, file:// and s3:// URIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.core.errors import UsageError
from sweeps.storage.folder import LocalFolder, folder_at


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("results/a[b]", "results/a[b]"),
        ("./~/x", "~/x"),
        ("a%20b#c?d", "a%20b#c?d"),
        ("file:///tmp/x [y]", "/tmp/x [y]"),
    ],
)
def test_a_path_is_taken_as_written(where, path):
    folder = folder_at(where)
    assert isinstance(folder, LocalFolder)
    assert folder.path == Path(path)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("a\\b[c]", "backslash and one of"),
        (Path("x\\y/what?"), "backslash and one of"),
        ("file://tmp/x", "found file://tmp/x"),
        ("file:///tmp/a%20b", "without %, "),
        ("file:x/y://z", "found file:x/y://"),
        ("s3://bucket", "expected s3://bucket/prefix"),
        ("s3://bucket//", "expected s3://bucket/prefix"),
        ("s3://bucket/a//b", "expected s3://bucket/prefix"),
        ("s3://bucket/a/../b", "expected s3://bucket/prefix"),
        ("s3://bucket/./a", "expected s3://bucket/prefix"),
        ("http://host/x", "found http://"),
    ],
)
def test_an_impossible_folder_name_is_refused_in_one_line(where, message):
    with pytest.raises(UsageError, match=message) as raised:
        folder_at(where)
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("prefix", ["a[b]", "it's", "50%", "a?b", "a b", "é", "a#b", "a%20b"])
def test_the_prefix_on_an_object_store_is_taken_as_written(prefix):
    assert str(folder_at(f"s3://bucket/{prefix}/x/")) == f"s3://bucket/{prefix}/x"
