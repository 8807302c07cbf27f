"""What `plan`, `doctor`, `judge` and `status` say of judges."""

import json

from tests.sweep_files import write_sweep

JUDGES = [
    "relevance",
    {"name": "credibility", "samples": 2},
    {"name": "pairwise", "axis": "agent", "baseline": "zero_shot", "against": ["react"]},
]
GRID = {"agent": ["zero_shot", "react"], "roles.agent": ["strong"], "seed": [0, 1]}


def test_plan_doctor_judge_and_status_show_them(tmp_path, crsweep):
    roles = {"user": "strong", "judge": "weak"}
    sweep = str(write_sweep(tmp_path, judges=JUDGES, roles=roles, grid=GRID))
    printed = crsweep("plan", sweep).stdout
    assert "judge relevance (model weak): 16 dialogues, about " in printed
    assert "judge pairwise (model weak): 8 pairs, about " in printed
    planned = {
        one["judge"]: one for one in json.loads(crsweep("plan", sweep, "--json").stdout)["judges"]
    }
    assert planned["credibility"]["dialogues"] == 16
    assert planned["credibility"]["calls"] > 0
    assert "ok    judges: relevance, credibility, pairwise: " in crsweep("doctor", sweep).stdout
    crsweep("run", sweep)
    out = str(tmp_path / "out")
    shown = crsweep("status", out).stdout
    assert "judge pairwise: 64 judgements valid, on 8 of 16 finished dialogues" in shown
    rendered = crsweep("render", sweep).stdout
    assert "relevance · judge.relevance · rate" in rendered
    assert "pairwise · judge.pairwise · " in rendered
    judged = crsweep("judge", out)
    assert "nothing to judge" in judged.stdout
    assert "persuasiveness" in judged.stdout
    replaced = crsweep("judge", out, "judges=[relevance]").stdout
    assert (
        "earlier verdicts are kept, but no table shows them: credibility (16 dialogues), "
        in replaced
    )
    assert "repeats no call" in replaced
    refused = crsweep("judge", out, "--only", "relevence", check=2)
    assert "did you mean 'relevance'?" in refused.stderr
