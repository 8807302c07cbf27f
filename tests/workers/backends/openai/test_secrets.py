"""Keys, credentials and headers: sent where the sweep names them, and never shown."""

import logging
import pickle
import traceback

import pytest

from agents.core.errors import EngineRefused
from tests.workers.backends.calls import call
from tests.workers.backends.fake_openai import Answer, FakeOpenAI, completion, refusal
from tests.workers.backends.openai.remote import KEY, check_of, complete, error_of, options


def test_no_key_is_sent_that_was_not_named():
    with FakeOpenAI() as server:
        complete(call(), url=server.url, api_key_env=None)
    assert server.asked[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize("status", [200, 401, 500])
def test_the_key_is_never_in_an_error_or_log(status, caplog):
    caplog.set_level(logging.DEBUG)
    echo = f"got 'Bearer {KEY}', {'x' * 240} {KEY}"
    error = error_of(Answer(status, refusal(echo)))
    shown = "".join(traceback.format_exception(error))
    assert "got 'Bearer ***'" in error.message
    for text in (error.message, shown, repr(pickle.loads(pickle.dumps(error))), caplog.text):
        assert KEY not in text
        assert KEY[:12] not in text


def test_credentials_in_the_address_are_used_and_never_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with FakeOpenAI(Answer(401, refusal("who is ann:p%40ss? p@ss? YW5uOnBAc3M="))) as server:
        url = server.url.replace("http://", "http://ann:p%40ss@")
        with pytest.raises(EngineRefused) as caught:
            complete(call(), url=url, api_key_env=None)
    assert server.asked[0].headers["authorization"] == "Basic YW5uOnBAc3M="
    assert "who is ann:***? ***? ***" in caught.value.message
    for secret in ("p%40ss", "p@ss", "YW5uOnBAc3M="):
        assert secret not in caught.value.message
        assert secret not in caplog.text


SENT_BY_NAME = {
    "OPENAI_API_KEY": "sk-of-another-server",
    "OPENAI_ADMIN_KEY": "sk-of-an-admin",
    "OPENAI_ORG_ID": "org-of-another",
    "OPENAI_PROJECT_ID": "proj-of-another",
    "OPENAI_BASE_URL": "http://another.invalid/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Custom: of-another\nAuthorization: Bearer sk-custom",
    "OPENAI_WEBHOOK_SECRET": "wh-of-another",
}


@pytest.mark.parametrize("key_env", [None, "CRSWEEP_TEST_KEY"])
def test_nothing_in_the_environment_is_sent_that_the_sweep_does_not_name(monkeypatch, key_env):
    for name, value in SENT_BY_NAME.items():
        monkeypatch.setenv(name, value)
    with FakeOpenAI() as server:
        complete(call(), url=server.url, api_key_env=key_env)
        check_of(server, api_key_env=key_env)
    for asked in server.asked:
        assert {name for name in asked.headers if not name.startswith("x-stainless-")} <= {
            "host", "accept", "accept-encoding", "connection", "content-type", "content-length",
            "user-agent", "authorization",
        }  # fmt: skip
        assert asked.headers["authorization"] == f"Bearer {KEY if key_env else 'none'}"
        assert "another" not in str(asked.headers)


def test_headers_that_the_sweep_names_are_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("MY_ORG", "org-secret")
    echo = Answer(400, refusal("who is org-secret?"))
    with FakeOpenAI(Answer(body=completion()), echo) as server:
        named = {"OpenAI-Organization": "MY_ORG"}
        complete(call(), url=server.url, headers_env=named)
        with pytest.raises(EngineRefused, match=r"who is \*\*\*\?"):
            complete(call(), url=server.url, headers_env=named)
    assert server.asked[0].headers["openai-organization"] == "org-secret"
    found = options("http://h/v1", headers_env=named)
    assert found.environment() == ["CRSWEEP_TEST_KEY", "MY_ORG"]
    assert "headers_env" not in found.identity()
