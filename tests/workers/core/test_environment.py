"""Environment variables that models depend on: wrong ones are named, needed ones are sent."""

import os
import pickle
from pathlib import Path

import pytest

from agents.core.errors import UsageError
from workers.core.environment import Environment, Variables, check_transport

EVERY = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in EVERY:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7890", "the scheme socks://"),
        ("all_proxy", "socks4://127.0.0.1:7890", "the scheme socks4://"),
        ("HTTPS_PROXY", "htps://127.0.0.1:7890", "the scheme htps://"),
        ("http_proxy", "http://[::1", "it is not an address"),
        ("HTTP_PROXY", "http://proxy:port", "it is not an address"),
        ("ALL_PROXY", "http://", "it has no host"),
        ("SSL_CERT_FILE", "/missing/x.pem", "/missing/x.pem: No such file or directory"),
        ("SSL_CERT_FILE", __file__, "no start line|NO_CERTIFICATE|no certificate"),
        ("SSL_CERT_DIR", "/missing", "/missing: no such folder"),
    ],
)
def test_a_variable_with_which_no_request_can_leave_is_named(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"environment variable {name} .*({said})"):
        check_transport()


def test_a_socks_proxy_without_its_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:7890")
    with pytest.raises(UsageError, match=r"ALL_PROXY .* needs the package socksio"):
        check_transport()


def test_a_login_in_a_proxy_is_not_shown(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://ann:s3cret@127.0.0.1:7890")
    with pytest.raises(UsageError) as caught:
        check_transport()
    assert "ann" not in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", ""),
        ("HTTPS_PROXY", "http://ann:pw@proxy.example:3128"),
        ("HTTP_PROXY", "127.0.0.1:3128"),
        ("SSL_CERT_DIR", str(Path.cwd())),
        ("NO_PROXY", "localhost,[::1]"),
    ],
)
def test_what_can_be_used_is_left_alone(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    check_transport()


def test_secrets_are_the_drivers_and_places_the_nodes_own(monkeypatch):
    monkeypatch.setenv("MY_KEY", "new")
    monkeypatch.setenv("HF_HOME", "/driver")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror")
    monkeypatch.setenv("https_proxy", "http://driver:1")
    monkeypatch.setenv("NO_PROXY", "driver")
    needs = [
        Variables(("MY_KEY", "UNSET_KEY"), ("HF_HOME", "HF_ENDPOINT")),
        Variables(network=True),
    ]
    sent = pickle.loads(pickle.dumps(Environment.of_here(needs)))
    assert "new" not in repr(sent)
    monkeypatch.setenv("MY_KEY", "old")
    monkeypatch.setenv("HF_HOME", "/node")
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.delenv("https_proxy")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "http://node:1")
    sent.take()
    found = [os.environ.get(n) for n in ("MY_KEY", "HF_HOME", "HF_ENDPOINT", "https_proxy")]
    assert found == ["new", "/node", "https://mirror", None]
    assert os.environ["NO_PROXY"] == "driver"
    monkeypatch.delenv("UNSET_KEY", raising=False)


def test_without_network_no_route_is_sent(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://driver:1")
    assert Environment.of_here([Variables()]).places == {}
