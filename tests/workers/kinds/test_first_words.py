"""What an agent is trained on: the first words of the sweep's own simulated user."""

import asyncio
import json

import pytest

from agents.core.ask import CallLog
from agents.core.errors import UsageError
from agents.latentcrs import pipeline
from runner.rehearsal.stand_ins import rules_resources
from simulators.core.cases import Case, HiddenCase, VisibleCase
from simulators.core.user import UserContext
from simulators.users import target_item
from sweeps.artifacts import artifact_task
from tests.fakes import FakeModel, make_ask
from tests.sweep_files import plan_of, write_sweep
from workers.kinds.artifacts import ArtifactHandler

USER = {"name": "target_item", "max_facts": 2, "history_items": 3}


def plan(folder, **changes):
    given = {
        "domain": {"name": "synthetic", "items": 60, "users": 20},
        "models": {"m": {"backend": "rules", "skill": 0.5}, "n": {"backend": "rules"}},
        "roles": {"user": "m", "agent": "m"},
        "agent": {"name": "latentcrs", "windows_per_user": 2, "validation_users": 5},
        "simulator": USER,
        "grid": {"seed": [0]},
        "cases": {"sample": 3},
        **changes,
    }
    return plan_of(write_sweep(folder, **given))


def needs_of(plan):
    return {need.name: need for top in plan.cells[0].needs for need in top.whole()}


def windows_of(plan):
    *_, last = needs_of(plan)["windows"].recipe.fit(plan.sources[0].domain.training_data(), 0)
    assert last.result is not None
    return last.result


def written(plan):
    """The first words, the calls that made them, and their examples."""
    need, windows = needs_of(plan)["words"], windows_of(plan)
    task = artifact_task(need.key_at(0), 0, "words", 0)

    async def write():
        resources = rules_resources(plan, probe=False)
        try:
            recipe = need.recipe.given({"windows": windows})
            return await ArtifactHandler(resources).write(recipe, task, CallLog(), lambda *_: None)
        finally:
            await resources.close()

    made = asyncio.run(write())
    assert made.error is None
    assert made.written is not None
    return made.written.content, made.written.calls, windows


def test_each_example_is_spoken_by_the_user_with_its_history_and_target(tmp_path):
    found = plan(tmp_path)
    content, calls, windows = written(found)
    catalogue = found.sources[0].domain.catalogue
    assert len(content.data["words"]) == len(windows.arrays["targets"]) == 45
    assert {(call["role"], call["step"]) for call in calls} == {("user", "open")}
    prompts = [json.loads(call["prompt"])[0]["content"] for call in calls if not call["reask"]]
    expected = []
    for past, target in zip(pipeline.histories_of(windows), windows.arrays["targets"], strict=True):
        history = tuple(catalogue.items[place] for place in past)
        case = Case(VisibleCase("u", history), HiddenCase((catalogue.items[target],)))
        options = target_item.TargetItem.Options(max_facts=2, history_items=3)
        model = FakeModel(lambda call: '{"words": "Hello."}')
        ask = make_ask(model, target_item.TargetItem, role="user")
        asyncio.run(target_item.TargetItem(options, UserContext(catalogue, case)).open(ask))
        expected.append(model.calls[0].messages[0].content)
    assert sorted(prompts) == sorted(expected)


def test_the_words_do_not_depend_on_how_many_calls_run_at_once(tmp_path, monkeypatch):
    found = plan(tmp_path)
    many = written(found)[0].data
    monkeypatch.setattr(pipeline, "_CALLS_AT_ONCE", 1)
    assert written(found)[0].data == many
    assert len(set(many["words"])) > 5


def test_another_user_means_other_words_but_the_same_windows(tmp_path):
    def keys(**changes):
        needs = needs_of(plan(tmp_path, **changes))
        return {name: need.key_at(0) for name, need in needs.items()}

    usual = keys()
    for changed in (
        keys(simulator={**USER, "max_facts": 1}),
        keys(simulator="ievalm"),
        keys(roles={"user": "n", "agent": "m"}),
    ):
        differing = {name for name, key in changed.items() if key != usual[name]}
        assert differing == {"words", "vectors", "em"}
    assert keys(roles={"user": "m", "agent": "m", "agent.encoder": "n"})["words"] == usual["words"]


@pytest.mark.parametrize(
    ("user", "why"),
    [("csuser", "needs users with profiles"), ("attribute_user", "speaks by rules")],
)
def test_a_user_that_cannot_speak_for_training_users_is_refused(tmp_path, user, why):
    with pytest.raises(UsageError, match=f"simulator.*{why}; expected a user that a model"):
        plan(tmp_path, simulator=user)
