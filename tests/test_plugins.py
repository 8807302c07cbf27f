"""One conformance test over everything that is discovered: every new plug-in is checked."""

import dataclasses
import importlib
import inspect
import random
import re

import pytest
from pydantic import ValidationError

from agents.core import plugins
from agents.core.agent import Agent
from agents.core.calls import EMBED, Shown
from agents.core.errors import UsageError
from agents.core.prompts import prompt_folder
from agents.core.reading import read_reply
from agents.policies.core.network import Network
from agents.recommenders.core import Recommender
from runner.rehearsal.dialogues import rehearse
from simulators.core.cases import Domain
from simulators.core.critic import Critic
from simulators.core.judge import HistoryOptions, Judge
from simulators.core.user import User
from tests.sweep_files import plan_of, write_sweep
from tests.workers.backends.rules.test_answers import changed, leaves
from workers.backends.core.backend import Backend
from workers.backends.core.replies import Answer, fill, random_reply
from workers.backends.rules.answers import Rules
from workers.backends.rules.knowledge import Knowledge
from workers.backends.rules.prompt_view import PromptView
from workers.backends.vllm.model.reply_length import longest_reply

KINDS = {
    "agents": Agent,
    "agents.policies": Network,
    "agents.recommenders": Recommender,
    "simulators.domains": Domain,
    "simulators.users": User,
    "simulators.judges": Judge,
    "simulators.critics": Critic,
    "simulators.recordings": None,
    "simulators.success": None,
    "workers.backends": Backend,
    "analysis.metrics": None,
}
EVERY = [(package, name) for package in KINDS for name in plugins.names(package)]
# Those without steps speak without a model: they replay, or follow rules.
AGENTS = [name for name in plugins.names("agents") if plugins.load("agents", name, "agent").steps]
USERS = [
    name
    for name in plugins.names("simulators.users")
    if plugins.load("simulators.users", name, "user").steps
]
SPEAKERS = [("agents", name) for name in AGENTS]
SPEAKERS += [("simulators.users", name) for name in USERS]
JUDGES = [(p, n) for p, n in EVERY if p == "simulators.judges"]
CRITICS = [(p, n) for p, n in EVERY if p == "simulators.critics"]


# By default, LatentCRS only embeds words; what has prompts of its own is played.
PLAYED = {"latentcrs": {"name": "latentcrs", "variant": "rerank"}}


# Every agent and every user once: prompts are a plug-in's own, so not every pair is played.
SIDES = [(agent, "target_item") for agent in AGENTS]
SIDES += [("zero_shot", user) for user in USERS if user != "target_item"]


def test_the_plugins_of_the_first_release_are_found():
    assert ("agents", "react") in EVERY
    assert ("agents.recommenders", "sasrec") in EVERY
    assert ("simulators.judges", "relevance") in EVERY
    assert ("workers.backends", "latency") in EVERY
    assert len(EVERY) >= 20


@pytest.mark.parametrize(("package", "name"), EVERY)
def test_a_plugin_exports_one_documented_thing_of_its_kind(package, name):
    exported = plugins.load(package, name, "plug-in")
    module = plugins.module(package, name, "plug-in")
    assert module.__doc__
    assert exported.__doc__ or inspect.isclass(exported)
    base = KINDS[package]
    if base is None:
        assert exported.__name__ == name
    else:
        assert issubclass(exported, base)
        assert not inspect.isabstract(exported)


@pytest.mark.parametrize(("package", "name"), [(p, n) for p, n in EVERY if KINDS[p] is not None])
def test_options_are_frozen_and_refuse_unknown_keys(package, name):
    options = plugins.load(package, name, "plug-in").Options
    assert issubclass(options, plugins.Options)
    assert options.model_config["frozen"]
    with pytest.raises(ValidationError):
        options.model_validate({"no_such_option": 1})


@pytest.mark.parametrize(("package", "name"), SPEAKERS + JUDGES + CRITICS)
def test_every_step_has_a_prompt_and_a_bounded_schema_that_rules_can_fill(package, name):
    speaker = plugins.load(package, name, "plug-in")
    prompts = prompt_folder(plugins.module(package, name, "plug-in"), None)
    assert speaker.steps
    for step in speaker.steps:
        prompts.check(step.name)
        assert_strings_are_bounded(step.schema)
        for acts in (True, False):
            read_reply(step, fill(step.schema, Answer(acts=acts)), guided=True, context={})
        for seed in range(50):
            noise = random_reply(step.schema, random.Random(seed))
            read_reply(step, noise, guided=True, context={})
        assert callable(getattr(Rules, step.kind))


@pytest.mark.parametrize(("package", "name"), JUDGES)
def test_a_judge_declares_scales_a_role_and_a_reason_before_each_score(package, name):
    judge = plugins.load(package, name, "judge")
    assert judge.roles == ("judge",)
    sides = {"baseline": "a", "against": ["b"]} if "against" in judge.Options.model_fields else {}
    options = judge.Options(**sides)
    assert options.identity() == {}
    dimensions = judge.dimensions(options)
    assert all(dimension.low < dimension.high for dimension in dimensions)
    kinds = [(dimension.kind, dimension.name) for dimension in dimensions]
    assert len(set(kinds)) == len(kinds) > 0
    for step in judge.steps:
        assert next(iter(step.schema["properties"])) == "reason"
    if issubclass(judge.Options, HistoryOptions):
        assert judge.Options(**sides, history_turns=3).identity() == {"history_turns": 3}
    else:
        assert "history_turns" not in judge.Options.model_fields


@pytest.mark.parametrize(("package", "name"), JUDGES + CRITICS)
def test_judges_and_critics_fence_what_others_wrote(package, name):
    """Every value in such a prompt but the noun and the form goes through a fence."""
    folder = prompt_folder(plugins.module(package, name, "judge"), None).folder
    for template in folder.glob("*.j2"):
        for expression in re.findall(r"{{(.*?)}}", template.read_text()):
            fenced = re.search(r"\| fenced\(\"[a-z_]+\"\) $", expression)
            assert fenced or expression.strip() in ("noun", "noun | with_article", "reply_form"), (
                template
            )


def assert_strings_are_bounded(schema):
    """Guided decoding must end: every free string has a longest length and plain characters."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and "enum" not in schema and "const" not in schema:
            assert "maxLength" in schema, schema
            assert "pattern" in schema, schema
        for below in schema.values():
            assert_strings_are_bounded(below)
    elif isinstance(schema, list):
        for below in schema:
            assert_strings_are_bounded(below)


@pytest.mark.parametrize(("agent", "user"), SIDES)
def test_no_rule_answers_from_a_leaf_that_a_shipped_prompt_does_not_show(tmp_path, agent, user):
    plan = plan_of(
        write_sweep(
            tmp_path,
            grid=None,
            agent=PLAYED.get(agent, agent),
            simulator=user,
            roles={"user": "strong", "agent": "strong"},
            cases={"sample": 2},
            limits={"shown_items": 1},  # so that no agent ends with its first recommendation
        ),
        probe=True,
    )
    rules = Rules(Knowledge(plan.sources[0].domain.catalogue, 1.0))
    calls = {}
    for attempt in rehearse(plan, [0], 2):
        assert attempt.error is None
        for record in attempt.journal.records:
            calls.setdefault((record.call.role, record.call.step.name), record.call)
    assert len(calls) >= 4
    unseen = 0
    for call in calls.values():
        if call.step == EMBED:
            continue
        package, name = (
            ("agents", agent) if call.role.startswith("agent") else ("simulators.users", user)
        )
        prompts = prompt_folder(plugins.module(package, name, "plug-in"), None)

        def answer(fields, call=call, prompts=prompts):
            given = {**fields, "reply_form": call.step.form}
            prompt, shown = prompts.render_shown(call.step.name, given)
            assert isinstance(shown, Shown)
            messages = (call.messages[0]._replace(content=prompt),)
            again = dataclasses.replace(call, fields=fields, shown=shown, messages=messages)
            return prompt, fill(
                call.step.schema, rules.answer(call.step.kind, PromptView(again), call.seed)
            )

        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in call.fields.items()}
        prompt, reply = answer(fields)
        for path in leaves(fields):
            other_prompt, other_reply = answer(changed(fields, path))
            if other_prompt == prompt:
                unseen += 1
                assert other_reply == reply, (call.role, call.step.name, path)
    assert unseen > 20


@pytest.mark.parametrize("agent", AGENTS)
def test_a_prompt_with_nothing_to_list_shows_no_item_called_none(tmp_path, agent):
    plan = plan_of(
        write_sweep(
            tmp_path,
            grid=None,
            agent=PLAYED.get(agent, agent),
            roles={"user": "strong", "agent": "weak"},
        ),
        probe=True,
    )
    calls = {}
    for attempt in rehearse(plan, [0], 4):
        for record in attempt.journal.records:
            if record.call.step == EMBED:
                continue
            calls.setdefault((record.call.role, record.call.step.name), record.call)
    for (role, step), call in calls.items():
        package, name = ("agents", agent) if role.startswith("agent") else (
            "simulators.users", "target_item")  # fmt: skip
        prompts = prompt_folder(plugins.module(package, name, "plug-in"), None)
        bare = {
            k: type(v)() if isinstance(v, list | tuple) and k != "conversation" else v
            for k, v in call.fields.items()
        }
        texts = ("question", "remark", "topic")
        for fields in (bare, bare | {k: "" for k in texts if k in bare}, bare | {"remark": "No."}):
            prompt = prompts.render(step, {**fields, "reply_form": call.step.form})
            listed = [line for line in prompt.splitlines() if re.match(r"\s*- \(", line)]
            assert not listed, (role, step)
            assert not re.search(r": \(n[a-z ]+\)$", prompt, re.MULTILINE), (role, step)
            assert "\n\n\n" not in prompt, (role, step)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_prompt_gives_the_form_before_the_inputs_and_ends_with_what_to_answer(tmp_path, agent):
    plan = plan_of(
        write_sweep(
            tmp_path,
            grid=None,
            agent=PLAYED.get(agent, agent),
            roles={"user": "strong", "agent": "strong"},
        )
    )
    [attempt] = rehearse(plan, [0], 1)
    for record in attempt.journal.records:
        if record.call.step == EMBED:
            continue
        call, [message] = record.call, record.call.messages
        instructions, form, inputs = message.content.partition(call.step.form)
        assert form, call.step.name
        assert message.role == "user"
        assert "conversation so far" not in instructions
        assert inputs.endswith(f"\n\n{call.step.closing}")


@pytest.mark.parametrize("agent", AGENTS)
def test_bounds_of_replies_follow_what_is_shown_and_listed(tmp_path, agent):
    def calls_of(shown_items):
        plan = plan_of(
            write_sweep(
                tmp_path,
                grid=None,
                agent=agent,
                roles={"user": "strong", "agent": "strong"},
                limits={"shown_items": shown_items},
            ),
            probe=True,
        )
        played = rehearse(plan, [0], 2)
        return [record.call for attempt in played for record in attempt.journal.records]

    for shown_items in (2, 25):
        calls = calls_of(shown_items)
        for call in calls:
            fields = call.step.schema["properties"]
            listed = len(call.fields.get("options") or call.fields.get("items", ()))
            assert longest_reply(call.step.schema) is not None
            if call.step.name in ("recommend", "refine"):
                assert fields["titles"]["maxItems"] == shown_items
            if call.step.name == "respond":
                assert fields["response"]["maxLength"] == 300 * shown_items
            if call.step.name == "perceive":
                assert fields["features"]["maxItems"] == len(call.fields["items"])
            for field in fields.values():
                if field.get("items", {}).get("type") == "integer":
                    assert field["items"]["maximum"] == listed
                    assert field["maxItems"] <= listed
        # Each distinct schema is compiled: those that follow options are one for all calls.
        constant = {"recommend", "refine", "respond", "plan", "decide", "think", "profile"}
        schemas = {call.step.name: set() for call in calls}
        for call in calls:
            schemas[call.step.name].add(call.step.schema_json)
        assert all(len(found) == 1 for name, found in schemas.items() if name in constant)


@pytest.mark.parametrize(("agent", "user"), SIDES)
def test_prompts_show_the_last_turns_that_history_turns_allows(tmp_path, agent, user):
    plan = plan_of(
        write_sweep(
            tmp_path,
            grid=None,
            agent={"name": agent, **PLAYED.get(agent, {}), "history_turns": 2},
            simulator={"name": user, "history_turns": 1},
            roles={"user": "strong", "agent": "weak"},
            cases={"sample": 20},
        ),
        probe=True,
    )
    # Some agents find what is wanted before the last turn, but not of every case.
    for cases in (1, 4, 20):
        played = max(rehearse(plan, [0], cases), key=lambda each: len(each.transcript.turns))
        if played.transcript.stop_reason == "max_turns":
            break
    opening, turns = played.transcript.opening, played.transcript.turns
    said = [[("user", opening.text)]]
    said += [[("recommender", t.agent.text), ("user", t.user.text)] for t in turns]
    cut = {"agent": 0, "user": 0}
    for record in played.journal.records:
        call, prompt = record.call, record.call.messages[0].content
        side = call.role.partition(".")[0]
        if "conversation" not in call.fields or not call.fields["conversation"]:
            continue
        first = call.turn - 2 if side == "agent" else call.turn
        latest = [line for turn in said[max(0, first) : call.turn] for line in turn]
        if side == "user":
            latest += said[call.turn][:1]
        if first > 0:
            cut[side] += 1
            latest.insert(0, ("note", "earlier turns are left out here"))
        shown = [(m.speaker, m.text) for m in call.fields["conversation"]]
        # Some prompts are about the user's words alone.
        assert shown in (latest, [line for line in latest if line[0] != "recommender"])
        lines = [line for line in prompt.splitlines() if line.startswith(("user:", "recommender:"))]
        said_lines = [f"{who}: {' '.join(text.split())}" for who, text in shown if who != "note"]
        assert lines == said_lines
        assert prompt.count("note: earlier turns are left out here") == (first > 0)
    assert min(cut.values()) > 2


@pytest.mark.parametrize(("package", "name"), SPEAKERS + CRITICS)
def test_history_turns_are_identity_and_none_by_default(package, name):
    options = plugins.load(package, name, "plug-in").Options
    assert options().identity() == {}
    assert options(history_turns=3).identity() == {"history_turns": 3}
    with pytest.raises(ValidationError):
        options(history_turns=0)


def test_a_module_that_exports_two_things_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "labs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "two.py").write_text("__all__ = ['A', 'B']\nA = B = 1\n")
    (package / "broken.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match="exactly one name"):
        plugins.load("agents", "labs.two", "agent")
    with pytest.raises(UsageError, match=r"module 'labs\.too' can .*; did you mean 'labs\.two'\?$"):
        plugins.load("agents", "labs.too", "agent")
    with pytest.raises(UsageError, match=r"no package 'lab9s' on Python's path; start crsweep in"):
        plugins.load("agents", "lab9s.two", "agent")
    with pytest.raises(UsageError, match="needs the package 'no_such_library'"):
        plugins.load("agents", "labs.broken", "agent")
