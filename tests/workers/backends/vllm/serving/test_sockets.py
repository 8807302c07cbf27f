"""The folder of an engine's sockets."""

import os
import socket
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from workers.backends.vllm.serving.sockets import PREFIX, VARIABLE, own_sockets


@pytest.fixture
def place(monkeypatch):
    """A folder with a short path, as that for temporary files is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setenv(VARIABLE, name)
        yield Path(name)


def bind():
    """Makes a socket as vLLM does: a UUID in the folder that the environment names."""
    path = Path(os.environ[VARIABLE]) / str(uuid.uuid4())
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def test_sockets_lie_in_a_folder_of_their_own_which_goes_with_them(place):
    with own_sockets():
        made = bind()
        assert made.parent.parent == place
        assert made.parent.stat().st_mode & 0o777 == 0o700
    assert os.environ[VARIABLE] == str(place)
    assert list(place.iterdir()) == []


def test_a_start_that_fails_leaves_nothing(place):
    with pytest.raises(RuntimeError), own_sockets():
        bind()
        raise RuntimeError
    assert list(place.iterdir()) == []


def test_engines_that_start_at_the_same_time_share_the_folder_until_the_last_has_started(place):
    first, second = own_sockets(), own_sockets()
    with second:
        with first:
            made = bind()
        assert made.exists()
        assert bind().parent == made.parent
    assert list(place.iterdir()) == []
    with own_sockets():
        assert bind().parent != made.parent


@pytest.mark.parametrize("length", [47, 48, 49, 50, 90, 200])
def test_a_sockets_path_is_never_too_long(monkeypatch, length):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        deep = Path(short) / ("d" * (length - len(short) - 1))
        deep.mkdir()
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with own_sockets():
            made = bind()
            assert len(str(made)) <= 107
            assert made.parent.parent == (deep if length <= 48 else Path("/tmp"))
    assert not made.parent.exists()
    assert VARIABLE not in os.environ


def test_what_was_left_a_day_ago_is_removed_and_nothing_else(place):
    old, young, other = (place / name for name in (f"{PREFIX}old", f"{PREFIX}young", "other"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "socket").touch()
    for folder in (old, other):
        os.utime(folder, (0, time.time() - 90_000))
    with own_sockets():
        pass
    assert set(place.iterdir()) == {young, other}
