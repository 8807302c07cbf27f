"""The agent `http`: what it sends, what it takes, and whom it blames for what it cannot take."""

import asyncio
import re
import subprocess
import sys
import threading

import pytest
from pydantic import ValidationError

from agents.core.agent import AgentContext
from agents.core.dialogue import Dialogue, Message
from agents.core.errors import AgentError, EngineDead, EngineOverloaded
from agents.core.items import VisibleCase
from agents.http import Http, conformance
from agents.http.client import AgentServer
from tests.agents.http.server import Foreign, Sent
from tests.conftest import ROOT
from tests.fakes import CATALOGUE, ITEMS, FakeModel, make_ask

SAID = (Message("user", "Hello."), Message("recommender", "This?", ITEMS[:1]),
        Message("user", "No."))  # fmt: skip
SHORT = {"timeout": 0.05}
WELL = {"message": "How about this?", "shown": [{"id": "2"}]}


def turn_of(url, *, shown_items=2, history=ITEMS[4:], said=SAID, **options):
    given = Http.Options(**{"system": "s 1", "url": url, **options})
    agent = Http(given, AgentContext(CATALOGUE, VisibleCase("u1", history), shown_items))
    ask = make_ask(FakeModel(lambda call: "none is asked"), ROOT)
    return asyncio.run(agent.respond(Dialogue(list(said)), ask))


def answered(reply, **how):
    with Foreign(reply if callable(reply) else lambda request: reply) as server:
        return turn_of(server.url, **how), server


def ids(items):
    return [item.id for item in items]


def test_the_whole_dialogue_is_sent_and_no_more():
    _, server = answered(WELL)
    (request,) = server.asked
    session, seed = request.pop("session"), request.pop("seed")
    assert re.fullmatch("[0-9a-f]{32}", session)
    assert isinstance(seed, int)
    assert request == {
        "protocol": 1,
        "turn": 2,
        "noun": "film",
        "shown_items": 2,
        "history": [{"id": "5", "title": "Amélie's Café (2001)"}],
        "conversation": [
            {"speaker": "user", "text": "Hello.", "shown": []},
            {"speaker": "recommender", "text": "This?",
             "shown": [{"id": "1", "title": "Silent River, The (1971)"}]},
            {"speaker": "user", "text": "No.", "shown": []},
        ],
    }  # fmt: skip
    assert "authorization" not in server.headers[0]


def test_a_token_of_the_environment_is_sent_and_a_missing_one_is_named(monkeypatch):
    monkeypatch.setenv("FOREIGN_TOKEN", "t0ken")
    _, server = answered(WELL, token_env="FOREIGN_TOKEN")
    assert server.headers[0]["authorization"] == "Bearer t0ken"
    monkeypatch.delenv("FOREIGN_TOKEN")
    with pytest.raises(AgentError, match="FOREIGN_TOKEN is not set here"):
        turn_of("http://127.0.0.1:1/", token_env="FOREIGN_TOKEN")


def test_an_answer_becomes_a_turn():
    turn, _ = answered({**WELL, "ranking": [{"title": "Heat Wave"}, {"id": "4"}, {"id": "5"}],
                        "strategy": "greedy", "action": "persuade"})  # fmt: skip
    assert (turn.text, turn.action, turn.strategy) == ("How about this?", "persuade", "greedy")
    assert ids(turn.shown) == ["2"]
    assert ids(turn.ranking) == ["2", "4"]  # what the user had is left out
    plain, _ = answered({"message": "What do you like?"})
    assert (plain.action, plain.shown, plain.ranking) == ("chat", (), None)
    assert [*plain.extra] == ["seconds"]


def test_titles_are_grounded_and_nothing_comes_twice_unless_that_is_allowed():
    named = {"message": "m", "shown": [{"title": "Silent River"}, {"title": "No Such Film"}]}
    turn, _ = answered(named)
    assert (turn.action, turn.shown) == ("recommend", ())
    assert turn.extra["titles_ungrounded"] == ["No Such Film"]
    assert turn.extra["titles_shown_before"] == 1
    assert turn.extra["empty_reason"] == "ungrounded+shown_before"
    again, _ = answered(named, repeat=True)
    assert ids(again.shown) == ["1"]
    had, _ = answered({"message": "m", "shown": [{"id": "5"}]})
    assert (had.shown, had.extra["titles_from_history"]) == ((), 1)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (Sent(b"<html>oops</html>"), "expected a JSON object, found '<html>oops</html>'"),
        (Sent(b""), "expected a JSON object, found ''"),
        (Sent(b"[1]"), "expected a JSON object"),
        (Sent(b"[" * 100_000), "expected a JSON object"),
        (Sent(b"\xff\xfe"), "expected a JSON object"),
        ({}, "message: Field required"),
        ({"message": ""}, "message: "),
        ({"message": 5}, "message: "),
        ({"message": "m", "shown": "2"}, "shown: "),
        ({"message": "m", "shown": [{"id": "2", "title": "x"}]}, "expected either id or title"),
        ({"message": "m", "shown": [{}]}, "expected either id or title"),
        ({"message": "m", "shwn": []}, "shwn: Extra inputs are not permitted"),
        ({"message": "m", "action": "dance"}, "action: "),
        ({"message": "m", "shown": [{"id": "99"}]}, "no item with the id '99'"),
        ({"message": "m", "shown": [{"id": str(n)} for n in (2, 3, 4)]}, "expected at most 2"),
        ({"message": "m", "ranking": [{"id": "2"}] * 1001}, "ranking: "),
        ({"message": "m" * 20_001}, "message: "),
        (Sent({"message": "m" * 9_000}), "more than 8,000 bytes"),
        (Sent(b"x" * 1_000, endless=True), "more than 8,000 bytes"),
        (Sent(b"not found", status=404), "HTTP 404: expected a JSON object"),
        (Sent(b"", status=301), "HTTP 301"),
        (Sent(WELL, status=201), "HTTP 201 with an answer, expected HTTP 200"),
        ({"error": "no such user"}, "no such user"),
        (Sent({"error": "broken", "blame": "agent"}, status=500), "broken"),
        ({"error": "x", "blame": "you"}, "blame: "),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_the_agents_failure(sent, words):
    most = 8_000 if "8,000" in words else 1_000_000
    with pytest.raises(AgentError) as caught:
        answered(sent, most_bytes=most)
    assert words in caught.value.message
    assert caught.value.message.startswith("http://127.0.0.1:")
    assert len(caught.value.message) < 1_000


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (Sent(b"", drop=True), EngineDead),
        (Sent(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", drop=True), EngineDead),
        (Sent(b"nonsense, not HTTP\r\n\r\n", drop=True), EngineDead),
        (Sent(b"upstream is gone", status=502), EngineDead),
        (Sent(b"", status=500), EngineDead),
        (Sent(b"slow down", status=429), EngineOverloaded),
        (Sent({"error": "GPU is full", "blame": "infrastructure"}, status=503), EngineDead),
        (Sent({"error": "GPU is full", "blame": "infrastructure"}), EngineDead),
    ],
)
def test_a_server_that_dies_is_infrastructure_so_that_the_dialogue_is_tried_again(sent, kind):
    with pytest.raises(kind) as caught:
        answered(sent)
    assert caught.value.blame == "infrastructure"
    assert caught.value.message.startswith("http://127.0.0.1:")


def test_a_server_that_is_not_there_is_infrastructure():
    with Foreign(lambda request: WELL) as server:
        url = server.url
    with pytest.raises(EngineDead, match=r"^http://127\.0\.0\.1:\d+/respond: "):
        turn_of(url)


def test_a_slow_server_has_failed_the_dialogue_once_the_timeout_is_over():
    never = threading.Event()
    try:
        with pytest.raises(AgentError, match=r"no complete answer within 0\.05 s \(`timeout`\)"):
            answered(Sent(WELL, wait=never), **SHORT)
    finally:
        never.set()


def test_a_login_in_the_address_is_in_no_message():
    with pytest.raises(EngineDead) as caught:
        turn_of("http://user:secret@127.0.0.1:1/respond")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "options", [{"url": "ftp://x"}, {"url": "x"}, {"system": ""}, {"timeout": 0}, {"most_bytes": 0}]
)
def test_options_are_checked_and_only_the_system_is_identity(options):
    with pytest.raises(ValidationError):
        Http.Options(**{"system": "s", "url": "http://x", **options})
    given = Http.Options(system="s 1", url="http://x", most_bytes=5, **SHORT)
    assert given.identity() == {"system": "s 1"}
    assert given.model_copy(update={"release": "2"}).identity() == {"system": "s 1", "release": "2"}


def test_the_reference_server_of_the_docs_conforms_and_answers(tmp_path):
    page = (ROOT / "docs/http-agent.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "server.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "server.py"), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert asyncio.run(conformance.check(AgentServer(url, 60.0, 1_000_000))) == []
        turn = turn_of(url, said=(Message("user", "Heat, please."),), shown_items=1)
        assert (turn.text, ids(turn.shown)) == ("How about Heat Wave?", ["2"])
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (lambda request: {"message": str(request["session"])}, "the answers differ"),
        (lambda request: {"message": "m", "shown": [{"title": "a"}] * 2}, "expected at most 1"),
        (lambda request: {"msg": "m"}, "a plain opening: http://127.0.0.1"),
    ],
)
def test_the_check_names_what_is_wrong(reply, words):
    seen: list[int] = []

    def counted(request):
        seen.append(1)
        answer = reply(request)
        return {**answer, "message": f"{len(seen)}"} if words == "the answers differ" else answer

    with Foreign(counted) as server:
        wrong = asyncio.run(conformance.check(AgentServer(server.url, 60.0, 1_000_000)))
    assert any(words in line for line in wrong)


def test_the_check_says_how_it_is_called(capsys):
    assert conformance.main([]) == 2
    assert "usage" in capsys.readouterr().err
    with Foreign(lambda request: {"message": "Hello."}) as server:
        assert conformance.main([server.url]) == 0
        assert capsys.readouterr().out == "conforms\n"
