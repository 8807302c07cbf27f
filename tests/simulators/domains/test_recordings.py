"""Recorded dialogues as cases: what is replayed, stored and read by judges is what was recorded."""

from __future__ import annotations

import json

import pytest

from agents.core.errors import DataError, UsageError
from runner.rehearsal.dialogues import rehearse
from simulators.domains.recordings import RecordingsDomain
from sweeps.judgements import StoredDialogue, StoredTurn
from tests.sweep_files import plan_of, write_sweep

HEAT = {"id": "7", "title": "Heat Wave", "attributes": {"genre": ["Action"]}}


def user(text, **more):
    return {"speaker": "user", "text": text, **more}


def said(text, **more):
    return {"speaker": "recommender", "text": text, **more}


DIALOGUES = [
    {"id": "plain", "messages": [user("Hi."), said("Yes?", labels={"relevance": 2})]},
    {"id": "first", "messages": [said("Welcome."), user("Hi."), said("This?", shown=[HEAT])]},
    {
        "id": "accepts",
        "messages": [
            user("Hi."),
            said("This?", shown=[HEAT, "Fargo"]),
            user("Fargo!", accepted="Fargo"),
            said("And this?", shown=[HEAT]),
            user("Good.", accepted="7"),
        ],
        "labels": {"overall": 3},
    },
    {"id": "silent", "messages": [user("Anybody?")], "labels": {"overall": 0}},
]


def write(folder, *records):
    path = folder / "d.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    return path


def domain_of(folder, *records):
    return RecordingsDomain(RecordingsDomain.Options(path=write(folder, *records)))


def sweep_of(folder, *records, **changes):
    given = {
        "domain": {"name": "recordings", "path": str(write(folder, *records))},
        "agent": "recorded",
        "simulator": "recorded",
        "roles": {},
        "grid": None,
        "cases": {},
    }
    return write_sweep(folder, **{**given, **changes})


def replayed(folder, *records):
    """Case id -> what a judge reads of the replayed dialogue."""
    plan = plan_of(sweep_of(folder, *records))
    found = {}
    catalogue = plan.sources[0].domain.catalogue
    for attempt in rehearse(plan, [0], len(records)):
        assert attempt.error is None
        assert attempt.journal.records == []
        script = attempt.transcript
        turns = [
            StoredTurn(
                number,
                turn.agent.text,
                turn.agent.action,
                tuple(item.id for item in turn.agent.shown),
                turn.user.text,
                turn.user.decision,
                turn.user.accepted and turn.user.accepted.id,
            )
            for number, turn in enumerate(script.turns, start=1)
        ]
        seeds = attempt.task.spec.seeds
        case = attempt.task.spec.case_id
        stored = StoredDialogue("e", "a", "h", 0, case, seeds, script.opening.text, tuple(turns))
        found[case] = stored.recorded(catalogue), script
    return found


def test_what_judges_read_is_what_was_recorded(tmp_path):
    recorded = RecordingsDomain(
        RecordingsDomain.Options(path=write(tmp_path, *DIALOGUES))
    )._found.dialogues
    found = replayed(tmp_path, *DIALOGUES)
    assert set(found) == {"plain", "first", "accepts"}
    for name, (read, _) in found.items():
        assert read.messages() == recorded[name].messages()
        assert read.noun == recorded[name].noun
        assert read.last_accepted == recorded[name].last_accepted or name == "accepts"
    assert [t.accepted and t.accepted.title for t in found["accepts"][0].turns] == [
        "Fargo",
        "Heat Wave",
    ]


def test_a_dialogue_ends_where_the_recording_does(tmp_path):
    reasons = {
        name: (script.stop_reason, len(script.turns), script.success_turn)
        for name, (_, script) in replayed(tmp_path, *DIALOGUES).items()
    }
    assert reasons == {
        "plain": ("user_left", 1, None),
        "first": ("user_left", 2, None),
        "accepts": ("accepted", 2, 2),
    }


def test_statistics_labels_and_what_is_left_out(tmp_path):
    domain = domain_of(tmp_path, *DIALOGUES)
    assert domain.statistics() == {"dialogues": 3, "replies": 5, "items": 2, "labels": 2}
    assert {label.dialogue_id for label in domain.labels()} == {"plain", "accepts"}
    assert domain.remarks() == ["dialogues without a reply, which are left out: 1"]
    assert domain.replayed_turns == 2
    assert len(domain.interactions()) == len(domain.validation_items()) == 0


def test_the_fingerprint_follows_the_words_and_not_the_labels(tmp_path):
    first = domain_of(tmp_path, *DIALOGUES).fingerprint()
    relabelled = [{**DIALOGUES[0], "labels": {"overall": 1}}, *DIALOGUES[1:]]
    assert domain_of(tmp_path, *relabelled).fingerprint() == first
    other = [{**DIALOGUES[0], "messages": [user("Hi!"), said("Yes?")]}, *DIALOGUES[1:]]
    assert domain_of(tmp_path, *other).fingerprint() != first


OTHER = {"id": "x", "messages": [said("A", shown=[{**HEAT, "price": 1}])]}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([DIALOGUES[3]], "no dialogue has a reply"),
        ([DIALOGUES[0], {**DIALOGUES[1], "noun": "film"}], r"several nouns: item .*film \(first\)"),
        ([DIALOGUES[1], OTHER], "x: the item '7' has other facts in an earlier dialogue"),
    ],
)
def test_recordings_that_are_no_one_catalogue_are_refused(tmp_path, records, message):
    with pytest.raises(DataError, match=message):
        domain_of(tmp_path, *records).case_ids("test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"agent": "zero_shot"},
            r"agent: expected 'recorded', .*'recordings' are recorded",
        ),
        ({"simulator": "target_item"}, r"simulator: expected 'recorded', .*found 'target_item'"),
        (
            {"limits": {"max_turns": 1}},
            "expected at least 2, the turns of the longest recorded dialogue, found 1",
        ),
        ({"domain": {"name": "synthetic"}}, "agent: 'recorded' needs the domain 'recordings'"),
        ({"cases": {"split": "train"}}, "recordings have one split, test"),
    ],
)
def test_a_sweep_that_would_not_replay_is_refused(tmp_path, changes, message):
    with pytest.raises((DataError, UsageError), match=message):
        plan_of(sweep_of(tmp_path, *DIALOGUES, **changes))
