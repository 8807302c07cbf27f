"""CRSArena-Eval, by made-up files of its layout."""

from __future__ import annotations

import json

import pytest

from agents.core.errors import DataError
from simulators.core.recordings import Label
from simulators.recordings.crsarena import crsarena

EVAL = [
    {
        "conv_id": "kbrd_redial_1",
        "dialog": [
            {"turn_ind": 0, "role": "USER", "utterance": "Hi "},
            {
                "turn_ind": 1,
                "role": "ASST",
                "utterance": "Have you seen Silent River?",
                "turn_level_aggregated": {"relevance": 2, "interestingness": 1},
            },
            {"turn_ind": 2, "role": "USER", "utterance": "No"},
            {
                "turn_ind": 3,
                "role": "ASST",
                "utterance": "",
                "turn_level_aggregated": {"relevance": None, "interestingness": 0},
            },
            {"turn_ind": 4, "role": "USER", "utterance": "Hello?"},
        ],
        "dial_level_aggregated": {"efficiency": 1, "dialog_overall": 4},
    },
    {"conv_id": "x_2", "dialog": [{"turn_ind": 0, "role": "USER", "utterance": "Hi"}]},
]


def write(folder, content):
    path = folder / "crs_arena_eval.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("by_folder", [True, False])
def test_dialogues_and_aggregated_labels_are_read(tmp_path, by_folder):
    path = write(tmp_path, EVAL)
    found = crsarena(tmp_path if by_folder else path)
    assert list(found.dialogues) == ["kbrd_redial_1", "x_2"]
    first = found.dialogues["kbrd_redial_1"]
    assert (first.noun, first.opening) == ("movie", "Hi ")
    assert [(t.number, t.agent_text, t.user_text) for t in first.turns] == [
        (1, "Have you seen Silent River?", "No"),
        (2, "", "Hello?"),
    ]
    assert found.dialogues["x_2"].turns == ()
    assert found.labels == (
        Label("kbrd_redial_1", 1, "relevance", 2),
        Label("kbrd_redial_1", 1, "interestingness", 1),
        Label("kbrd_redial_1", 2, "interestingness", 0),
        Label("kbrd_redial_1", None, "efficiency", 1),
        Label("kbrd_redial_1", None, "dialog_overall", 4),
    )


def bad_role():
    [first, second] = json.loads(json.dumps(EVAL))
    second["dialog"][0]["role"] = "SYSTEM"
    return [first, second]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is not JSON"),
        ({}, "found a value of type dict, expected a list of dialogues"),
        ([{"conv_id": "a"}], r"dialogue 0: not in the layout of CRSArena-Eval \(KeyError: 'dialog"),
        ([3], "dialogue 0: not in the layout"),
        (bad_role(), r"dialogue 1: .*role 'SYSTEM', expected USER or ASST"),
        ([EVAL[0], EVAL[0]], "dialogue 1: id: 'kbrd_redial_1' is the id of an earlier"),
    ],
)
def test_another_layout_is_refused_with_the_place(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        crsarena(write(tmp_path, content))


def test_a_folder_without_the_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no crs_arena_eval\.json is there"):
        crsarena(tmp_path)
