"""Options of the openai backend: what is refused, and what is part of a model's identity."""

from typing import Any

import pytest

from agents.core.errors import UsageError
from sweeps.origins import Origins
from tests.workers.backends.calls import call, context
from tests.workers.backends.openai.remote import KEY, options, spec_of
from workers.backends.openai import OpenAIBackend
from workers.models import BoundModel, declare


def test_replies_are_free_text_unless_decoding_is_guided():
    for guided in ("json_schema", "none"):
        model = BoundModel("m", spec_of(base_url="http://h/v1", guided=guided), context(), 0)
        assert model.guided == (guided == "json_schema")


def test_a_missing_key_is_found_when_options_are_checked(monkeypatch):
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError) as caught:
        options("http://h/v1")
    assert "models.remote.api_key_env" in caught.value.message
    assert "the environment variable CRSWEEP_TEST_KEY is not set" in caught.value.message


def test_a_key_that_vanished_later_is_one_clear_line_too(monkeypatch):
    checked = options("http://h/v1")
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError, match="model 'm': the environment variable CRSWEEP_TEST_KEY"):
        OpenAIBackend(checked, context())


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key_env": KEY},
        {"base_url": f"https//{KEY}@host/v1"},
        {"base_url": f"http://ann:{KEY}/x@host/v1"},
        {"base_url": f"http://host/v1?key={KEY}"},
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_unseen(wrong):
    with pytest.raises(UsageError) as caught:
        options("http://h/v1", **wrong)
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"modle": "qwen"}, "did you mean 'model'"),
        ({"sampling": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"sampling": {"temperature": True}}, "booleans are not allowed here, found true"),
        ({"guided": "json_shema"}, "did you mean 'json_schema'"),
        ({"extra_body": {"seed": 1}}, "'seed' is set by other options"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_wrong_options_are_refused_in_words(wrong, said):
    with pytest.raises(UsageError) as caught:
        options("http://h/v1", **wrong)
    assert said in caught.value.message


def test_identity_is_what_decides_the_answers():
    def identity(**given: Any):
        return declare(spec_of(**given), Origins(), ()).identity()["options"]

    plain = identity(base_url="http://a/v1")
    moved = identity(base_url="http://b/v1", timeout=9, api_key_env="CRSWEEP_TEST_KEY")
    assert plain == moved == {"model": "qwen"}
    warm = identity(base_url="http://a/v1", sampling={"temperature": 1.0}, guided="none")
    assert warm == {"model": "qwen", "sampling": {"temperature": 1.0}, "guided": "none"}
    assert identity(base_url="http://a/v1", extra_body={"k": 1})["extra_body"] == {"k": 1}


def test_only_a_temperature_of_zero_that_is_sent_is_greedy():
    for temperature, greedy in ((0, True), (0.1, False), (None, False)):
        spec = spec_of(base_url="http://h/v1", sampling={"temperature": temperature})
        assert BoundModel("m", spec, context(), 0).greedy == greedy


def test_calls_of_different_seeds_stay_different_where_no_seed_is_sent():
    spec = spec_of(base_url="http://h/v1", sampling={"seed": None})
    model = BoundModel("m", spec, context(), 0)
    assert call(1).key(model) != call(2).key(model)


@pytest.mark.parametrize("end", ["/chat/completions", "/embeddings", "/models"])
def test_an_address_of_one_request_is_refused(end):
    with pytest.raises(UsageError, match=f"remote.base_url: leave out {end}"):
        options(f"http://h/v1{end}")


def test_a_variable_that_is_not_set_is_named_once(monkeypatch):
    monkeypatch.delenv("CRSWEEP_TEST_KEY")
    with pytest.raises(UsageError) as caught:
        options("http://h/v1")
    assert caught.value.message.endswith(
        "models.remote.api_key_env: the environment variable CRSWEEP_TEST_KEY is not set"
    )
    with pytest.raises(
        UsageError, match=r"headers_env: the environment variable MY_ORG is not set$"
    ):
        options("http://h/v1", api_key_env=None, headers_env={"X-Org": "MY_ORG"})
