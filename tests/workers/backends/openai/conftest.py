"""The environment of every test here: the server's key, and one of another server."""

import pytest

from tests.workers.backends.openai.remote import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRSWEEP_TEST_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
