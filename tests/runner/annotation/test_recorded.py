"""Recorded dialogues are run, judged and compared with the labels that came with them."""

import io
import json
import re

import pytest
from rich.console import Console

from agents.core.calls import Completion
from agents.core.errors import UsageError
from analysis.results import Results
from analysis.statistics.agreement import make_agreement
from runner.annotation.recorded import import_recorded
from runner.driver.loading import load_plan_of
from runner.driver.run import run
from tests.runner.reading import raw
from tests.sweep_files import write_sweep
from workers.backends.rules.backend import RulesBackend

TURNS = {"relevance": 2, "interestingness": 2}
WHOLE = {
    "understanding": 2,
    "task_completion": 2,
    "interest_arousal": 2,
    "efficiency": 1,
    "preference_elicitation": 2,
    "explanation": 2,
    "dialog_overall": 4,
}


def labels(highest, number):
    return {name: (number + n) % (high + 1) for n, (name, high) in enumerate(highest.items())}


def dialogue(number):
    turns = []
    for turn in range(3):
        turns.append({"turn_ind": 2 * turn, "role": "USER", "utterance": f"Question {turn}"})
        turns.append(
            {
                "turn_ind": 2 * turn + 1,
                "role": "ASST",
                "utterance": f"Reply {number * 3 + turn} of dialogue {number}.",
                "turn_level_aggregated": labels(TURNS, number * 3 + turn),
            }
        )
    whole = labels(WHOLE, number)
    return {"conv_id": f"crs_{number}", "dialog": turns, "dial_level_aggregated": whole}


@pytest.fixture
def sweep(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    dialogues = [dialogue(number) for number in range(8)]
    del dialogues[0]["dialog"][1]["turn_level_aggregated"]["relevance"]  # a few are missing
    (data / "crs_arena_eval.json").write_text(json.dumps(dialogues))
    return write_sweep(
        tmp_path,
        domain={"name": "recordings", "reader": "crsarena", "path": str(data)},
        agent="recorded",
        simulator="recorded",
        roles={"judge": "strong"},
        judges=["crsarena"],
        grid=None,
        cases=None,
    )


def play(sweep):
    console = Console(file=io.StringIO(), width=200)
    result = run(sweep, [], accept_source_change=False, console=console)
    assert (result.noun, result.left) == ("judgement", 0)
    return sweep.parent / "out"


async def copies(self, call):
    """A judge that gives the labels, which the words of this data name."""
    prompt = call.messages[0].content
    if call.step.name == "rate_turn":
        given = labels(TURNS, int(re.findall(r"Reply (\d+) of", prompt)[-1]))  # it comes last
    else:
        given = labels(WHOLE, int(re.findall(r"of dialogue (\d+)", prompt)[0]))
    return Completion(json.dumps({"reason": "As labelled.", **given}), "stop", 1, 1)


def test_a_judge_that_copies_the_labels_agrees_to_1_on_recorded_dialogues(sweep, monkeypatch):
    monkeypatch.setattr(RulesBackend, "complete", copies)
    out = play(sweep)
    plan = load_plan_of(str(out), [])
    imported, left = import_recorded(plan, None, "aggregate")
    assert imported.new == 8 * 3 * 2 - 1 + 8 * 7
    assert (sum(left.unknown.values()), left.unplayed) == (0, 0)
    assert import_recorded(plan, "crsarena", "aggregate")[0] == (0, imported.new, 0)
    rows = make_agreement(Results.open(out)).rows
    assert [row.dimension for row in rows] == [*TURNS, *WHOLE]
    assert [row.units for row in rows] == [23, 24, *[8] * 7]
    for row in rows:
        assert [row.equal, row.kappa, row.alpha, row.spearman] == [pytest.approx(1)] * 4


def test_recorded_dialogues_are_stored_once_and_judged_once(sweep):
    out = play(sweep)
    assert len(raw(out, "episodes")) == 8
    before = len(raw(out, "judgements"))
    assert before == 8 * (3 * 2 + 7)
    play(sweep)
    assert len(raw(out, "judgements")) == before
    turns = raw(out, "turns").query("turn > 0")
    assert set(turns.action) == {"chat"}
    prompts = raw(out, "calls").prompt
    assert not prompts.str.contains('user: *(?:\\\\n|")', regex=True).any()  # no empty message
    shown = {row.dimension for row in make_rows(out)}
    assert shown == {*TURNS, *WHOLE}


def make_rows(out):
    import_recorded(load_plan_of(str(out), []), None, "aggregate")
    return make_agreement(Results.open(out)).rows


def test_labels_that_no_judge_scores_are_refused_or_counted(sweep):
    out = play(sweep)
    with pytest.raises(UsageError, match="no judge of the sweep scores any of the labelled"):
        import_recorded(load_plan_of(str(out), ["judges=[credibility]"]), None, "aggregate")
    with pytest.raises(UsageError, match="no judge 'crs'"):
        import_recorded(load_plan_of(str(out), []), "crs", "aggregate")
    assert raw(out, "judgements").annotator.isna().all()


def test_labels_off_the_scale_are_refused_and_nothing_is_written(sweep):
    path = sweep.parent / "data" / "crs_arena_eval.json"
    dialogues = json.loads(path.read_text())
    dialogues[5]["dial_level_aggregated"]["efficiency"] = 2
    path.write_text(json.dumps(dialogues))
    out = play(sweep)
    with pytest.raises(UsageError, match="crs_5: efficiency: found 2, expected 0 to 1"):
        import_recorded(load_plan_of(str(out), []), None, "aggregate")
    assert raw(out, "judgements").annotator.isna().all()
