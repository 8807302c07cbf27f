"""The import format: what is read from it, and what is refused."""

from __future__ import annotations

import json

import pytest

from agents.core.errors import DataError
from agents.core.items import Item
from simulators.core.judge import RecordedDialogue, RecordedTurn
from simulators.core.recordings import Label
from simulators.recordings.json_lines import json_lines

FACTS = {
    "id": "7",
    "title": "Heat  Wave",
    "attributes": {"genre": ["Action"]},
    "description": "Dry.\nHot.",
    "price": 3,
}
FULL = {
    "id": "d1",
    "noun": "film",
    "messages": [
        {"speaker": "user", "text": "Hi."},
        {
            "speaker": "recommender",
            "text": "These?",
            "shown": [FACTS, "Fargo"],
            "labels": {"relevance": 2},
        },
        {"speaker": "user", "text": "No."},
        {"speaker": "recommender", "text": "", "labels": {"relevance": 0.5, "other": 1}},
        {"speaker": "user", "text": "Then Heat Wave.", "accepted": "Heat Wave"},
    ],
    "labels": {"overall": 3},
}


def read(tmp_path, *records):
    path = tmp_path / "d.jsonl"
    path.write_text("\n\n".join(json.dumps(record) for record in records) + "\n")
    return json_lines(path)


def changed(**fields):
    return {**FULL, **fields}


def said(*messages):
    return changed(messages=list(messages))


def test_a_dialogue_and_its_labels_are_read(tmp_path):
    found = read(tmp_path, FULL)
    item = Item("7", "Heat Wave", {"genre": ("Action",)}, "Dry. Hot.", 3.0)
    assert found.dialogues == {
        "d1": RecordedDialogue(
            "film",
            "Hi.",
            (
                RecordedTurn(1, "These?", None, (item, Item("Fargo", "Fargo")), "No.", None, None),
                RecordedTurn(2, "", None, (), "Then Heat Wave.", "accept", item),
            ),
        )
    }
    assert found.labels == (
        Label("d1", 1, "relevance", 2),
        Label("d1", 2, "relevance", 0.5),
        Label("d1", 2, "other", 1),
        Label("d1", None, "overall", 3),
    )


def test_a_dialogue_may_begin_and_end_with_either_speaker(tmp_path):
    user, recommender = {"speaker": "user", "text": "u"}, {"speaker": "recommender", "text": "r"}
    records = [
        {"id": str(number), "messages": messages}
        for number, messages in enumerate(
            [[user], [recommender], [user, recommender], [recommender, user, recommender]]
        )
    ]
    found = read(tmp_path, *records).dialogues
    assert [(d.opening, len(d.turns)) for d in found.values()] == [
        ("u", 0), (None, 1), ("u", 1), (None, 2),
    ]  # fmt: skip
    assert found["3"].turns[0].user_text == "u"
    assert found["3"].turns[1].user_text is None
    assert found["0"].noun == "item"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "found '[]', expected a valid dictionary"),
        ({"messages": FULL["messages"]}, "id: the field required"),
        (changed(id=""), "id: found '', String should have at least 1 character"),
        (changed(messages=[]), "messages: found '[]', List should have at least 1 item"),
        (changed(message=[]), "message: there is no such field; did you mean 'messages'?"),
        (changed(noun="<b>"), "noun: found '<b>', String should match"),
        (changed(labels={"overall": "3"}), "labels.overall: found '3', expected a valid number"),
        (changed(labels={"overall": True}), "labels.overall: found 'True', expected a valid"),
        (
            said({"speaker": "USER", "text": "Hi."}),
            "messages[0].speaker: found 'USER', expected 'user' or 'recommender'",
        ),
        (said({"speaker": "user"}), "messages[0].text: the field required"),
        (
            said({"speaker": "user", "text": "a", "shown": ["x"]}),
            "messages[0]: shown: only messages of the recommender have this field",
        ),
        (
            said({"speaker": "user", "text": "a", "labels": {"x": 1}}),
            "messages[0]: labels: only messages of the recommender have this field",
        ),
        (
            said({"speaker": "recommender", "text": "a", "accepted": "x"}),
            "messages[0]: accepted: only messages of the user have this field",
        ),
        (
            said({"speaker": "user", "text": "a", "accepted": "x"}),
            "messages[0]: accepted: no item was shown before",
        ),
        (
            said({"speaker": "user", "text": "a"}, {"speaker": "user", "text": "b"}),
            "messages[1]: two messages of the user follow each other; join their texts",
        ),
        (
            said(
                {"speaker": "recommender", "text": "a", "shown": ["Fargo"]},
                {"speaker": "user", "text": "b", "accepted": "Fargos"},
            ),
            "messages[1]: accepted: found 'Fargos', expected the id or title of an item that was "
            "shown before; did you mean 'Fargo'?",
        ),
        (
            said({"speaker": "recommender", "text": "a", "shown": [{"name": "x"}]}),
            "messages[0].shown[0].title: the field required",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, record, message):
    with pytest.raises(DataError) as failed:
        read(tmp_path, record)
    assert failed.value.message.startswith(f"{tmp_path / 'd.jsonl'}:1: ")
    assert message in failed.value.message


def test_an_id_is_used_once(tmp_path):
    with pytest.raises(DataError, match=r":3: id: 'd1' is the id of an earlier dialogue too"):
        read(tmp_path, FULL, FULL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file holds no dialogue"),
        (b"\n \n", "the file holds no dialogue"),
        (b'{"id": ', ":1: the line is not JSON"),
        (b"[" * 100_000, ":1: the line is not JSON"),
        (b"\xff\xfe{}", "the line is not"),
        (b'{"id": "\xe9"}', ":1: the line is not UTF-8 text"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        json_lines(path)


def test_a_missing_file_and_lone_surrogates(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        json_lines(tmp_path / "none.jsonl")
    found = read(tmp_path, said({"speaker": "user", "text": "\ud800"}))
    assert found.dialogues["d1"].opening == "\ufffd"
