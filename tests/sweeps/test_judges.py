"""What a sweep file may say of judges, and what identifies them."""

import pytest

from agents.core.errors import UsageError
from sweeps.judges import PairChoice, opponents
from tests.sweep_files import BASE, plan_of, write_sweep

ROLES = {"user": "strong", "judge": "strong"}
PAIR = {"name": "pairwise", "axis": "agent", "baseline": "zero_shot", "against": ["react"]}


def judges_of(folder, judges, *overrides, **changes):
    return plan_of(write_sweep(folder, judges=judges, **{"roles": ROLES, **changes}), *overrides)


def ids(plan):
    return [task.id for task in plan.episode_tasks()]


def test_judges_are_no_part_of_any_episode(tmp_path):
    without = plan_of(write_sweep(tmp_path))
    judged = judges_of(tmp_path, ["relevance", {"name": "credibility", "samples": 3}, PAIR])
    assert ids(judged) == ids(without)
    assert [judge.title for judge in judged.judges] == ["relevance", "credibility", "pairwise"]
    assert all(cell.judges == dict.fromkeys(
        ["judge.relevance", "judge.credibility", "judge.pairwise"], "strong"
    ) for cell in judged.cells)  # fmt: skip
    assert all("judge" not in cell.roles for cell in judged.cells)


def test_the_digest_is_of_the_judge_its_options_and_its_model_alone(tmp_path):
    def digest(judge, *overrides):
        return judges_of(tmp_path, [judge], *overrides).judges[0].digest

    known = digest("intention")
    assert digest({"name": "intention", "samples": 4}) == known
    assert digest({"name": "intention", "label": "wish"}) == known
    assert digest("intention", "cases.sample=2", "models.weak.skill=0.1") == known
    assert digest({"name": "intention", "item": "last_recommended"}) != known
    assert digest("intention", "roles.judge=weak") != known
    assert digest("relevance") != known
    assert digest({**PAIR, "against": ["react"]}) == digest({**PAIR, "baseline": "react",
                                                            "against": ["zero_shot"]})  # fmt: skip


def test_a_judge_of_its_own_role_has_the_model_of_that_role(tmp_path):
    roles = {**ROLES, "judge.relevance": "weak"}
    plan = judges_of(tmp_path, ["relevance", "credibility"], roles=roles)
    assert plan.cells[0].judges == {"judge.relevance": "weak", "judge.credibility": "strong"}
    assert plan.cells[0].models == ["strong", "weak"]


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        (["relevence"], "judges.0: no judge is called 'relevence'; did you mean 'relevance'?"),
        (["relevance", "relevance"], "'relevance' is listed twice; give one of them another"),
        ([{"name": "relevance", "samples": 0}], "judges.0.samples: "),
        ([{"name": "intention", "itm": "accepted"}], "judges.0.itm: unknown key 'itm'"),
        ([{"name": "intention", "sample": 3}], "unknown key 'sample'; did you mean 'samples'?"),
        ([{"name": "pairwise", "against": ["react"]}], "judges.0.baseline: is missing"),
        ([{**PAIR, "name": "proactiveness", "pairs": "response"}],
         "judges.0.pairs: expected 'dialogue', found 'response'"),
        ([{**PAIR, "axis": "agnt"}], "judges.0.axis: the grid has no axis 'agnt'; did you mean"),
        ([{**PAIR, "baseline": "zero"}], "judges.0.baseline: agent has no value 'zero'"),
        ([{**PAIR, "against": ["zero_shot"]}], "against: expected opponents only, found"),
    ],
)  # fmt: skip
def test_a_wrong_judge_is_refused_in_one_line(tmp_path, judges, message):
    with pytest.raises(UsageError) as caught:
        judges_of(tmp_path, judges)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_role_of_a_judge_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no judge 'relevnce'; did you mean 'relevance'"):
        judges_of(tmp_path, ["relevance"], "roles.judge.relevnce=weak")
    # One of another judge, which may be run later, and one by its label.
    judges_of(tmp_path, ["relevance"], "roles.judge.intention=weak")
    judges_of(tmp_path, [{"name": "intention", "label": "wish"}], "roles.judge.wish=weak")


def test_a_judge_needs_a_model(tmp_path):
    with pytest.raises(UsageError, match=r"no model is given for the role 'judge\.relevance'"):
        judges_of(tmp_path, ["relevance"], roles={"user": "strong"})


def test_all_dialogues_are_judged_by_one_model(tmp_path):
    grid = {**BASE["grid"], "roles.judge": ["strong", "weak"]}
    with pytest.raises(UsageError, match=r"roles\.judge cannot be an axis"):
        judges_of(tmp_path, ["relevance"], grid=grid)
    grid = {"agent": ["zero_shot"], "roles": [
        {"agent": "weak", "user": "weak", "judge": "weak"},
        {"agent": "weak", "user": "strong", "judge": "strong"},
    ]}  # fmt: skip
    with pytest.raises(UsageError, match=r"the model of judge\.relevance differs between cells"):
        judges_of(tmp_path, ["relevance"], grid=grid)


def test_opponents_differ_in_one_axis_alone():
    cells = [
        {"agent": agent, "roles.agent": model}
        for model in ("big", "small")
        for agent in ("a", "b", "c")
    ]
    choice = PairChoice("dialogue", "agent", "b", ("a", "c"))
    assert opponents(choice, cells) == {1: [0, 2], 4: [3, 5]}
    assert opponents(choice._replace(against=("c",)), cells[:4]) == {1: [2]}
