"""Schemas as guided decoding is sent them: every field where it is declared."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from agents.core import plugins
from agents.core.reading import read_reply
from agents.core.steps import Bound, ReplyModel, Step, text

STEPS = {
    f"{package}.{name}.{step.name}": step
    for package in ("agents", "simulators.users", "simulators.judges")
    for name in plugins.names(package)
    for step in plugins.load(package, name, "plug-in").steps
}


class Inner(ReplyModel):
    why: Annotated[str, text(20)]
    choice: Literal["b", "a"]


class Outer(ReplyModel):
    zeal: Annotated[str, text(20)]
    inner: list[Inner]
    action: Literal["ask", "recommend"]


def declared(model: type[BaseModel]) -> dict[str, list[str]]:
    """Field names of a reply model and of all models in it, in their declared order."""
    found = {model.__name__: list(model.model_fields)}
    for info in model.model_fields.values():
        for inner in _models_in(info.annotation):
            found |= declared(inner)
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)


def sent(schema_json: str) -> dict[str, list[str]]:
    """The same of a schema as it is sent, byte by byte."""
    schema = json.loads(schema_json, object_pairs_hook=list)
    objects: dict[str, list[str]] = {}

    def walk(pairs: Any) -> None:
        if not isinstance(pairs, list):
            return
        keys = dict(pair for pair in pairs if isinstance(pair, tuple))
        if isinstance(keys.get("properties"), list):
            objects[keys["title"]] = [name for name, _ in keys["properties"]]
        for pair in pairs:
            walk(pair[1] if isinstance(pair, tuple) else pair)

    walk(schema)
    return objects


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_step_sends_its_fields_in_the_order_in_which_they_are_declared(step):
    assert sent(step.schema_json) == declared(step.reply)
    assert json.loads(step.schema_json) == step.schema


def test_fields_of_objects_in_a_reply_keep_their_order_too():
    step = Step("act", "decide", Outer)
    assert sent(step.schema_json) == {
        "Outer": ["zeal", "inner", "action"],
        "Inner": ["why", "choice"],
    }


CARRIES_OUT = {"guidance", "sentence"}
"""Text that follows from a choice and is no reason for it (DESIRE, eq. 8 and 9; CSI, Table 15)."""


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_reply_says_in_words_what_it_thinks_before_it_decides(step):
    """No choice or flag comes before free text: that would be a reason made up afterwards."""
    decided = ""
    for name, schema in step.schema["properties"].items():
        if "enum" in schema or schema.get("type") == "boolean":
            decided = decided or name
        elif schema.get("type") == "string" and name not in CARRIES_OUT:
            assert not decided, f"{name} comes after {decided}"


class Group(ReplyModel):
    name: Annotated[str, text(20)]
    numbers: Annotated[list[Annotated[int, Field(ge=1, le=999)]], Field(max_length=50)]


class Groups(ReplyModel):
    why: Annotated[str, text(40, "Say why.")]
    groups: Annotated[list[Group], Field(min_length=1, max_length=30, description="Groups.")]
    best: Annotated[int, Field(ge=1, le=30)]

    @field_validator("why")
    @classmethod
    def _is_no_secret(cls, why: str) -> str:
        if why == "secret":
            raise ValueError("a secret")
        return why


GROUP = Step("group", "group", Groups)
NARROW = GROUP.bounded(
    why=10, groups=2, best=Bound(number=2), **{"groups.numbers": Bound(length=3, number=4)}
)
GOOD = {"why": "x", "groups": [{"name": "n", "numbers": [4, 1, 1]}], "best": 2}


def test_a_bounded_step_differs_in_its_bounds_alone():
    assert (NARROW.name, NARROW.kind, NARROW.mode) == ("group", "group", "json")
    whole, narrow = json.dumps(GROUP.schema), NARROW.schema_json
    for before, after in (('"maximum": 999', 4), ('"maximum": 30', 2), ('"maxItems": 50', 3),
                          ('"maxItems": 30', 2), ('"maxLength": 40', 10)):  # fmt: skip
        assert whole.count(before) == 1
        whole = whole.replace(before, f"{before.partition(':')[0]}: {after}")
    assert narrow == json.dumps(json.loads(whole), separators=(",", ":"))
    assert sent(narrow) == sent(GROUP.schema_json)
    assert NARROW.form == (
        "Answer with one JSON object and nothing else. Its fields, in this order:\n"
        '- "why": a string of at most 10 characters. Say why.\n'
        '- "groups": a list of at most 2 objects, each with the fields below. Groups.\n'
        '  - "name": a string of at most 20 characters.\n'
        '  - "numbers": a list of at most 3 whole numbers from 1 to 4.\n'
        '- "best": a whole number from 1 to 2.'
    )


def test_equal_bounds_give_the_same_step_and_none_the_step_itself():
    assert GROUP.bounded(groups=2) is GROUP.bounded(groups=Bound(2))
    assert GROUP.bounded(groups=2) is not GROUP.bounded(groups=3)
    assert GROUP.bounded(groups=30).schema_json == GROUP.schema_json


def test_a_bound_may_be_wider_than_the_declared_one():
    many = [{"name": "n", "numbers": []}] * 35
    wide = GROUP.bounded(groups=40, best=Bound(number=40))
    reply = {"why": "x", "groups": many, "best": 35}
    assert len(read_reply(wide, json.dumps(reply), guided=True, context={}).groups) == 35


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"why": "x" * 11}, "at most 10 characters"),
        ({"groups": [GOOD["groups"][0]] * 3}, "at most 2 items"),
        ({"groups": []}, "at least 1 item"),
        ({"groups": [{"name": "n", "numbers": [5]}]}, "less than or equal to 4"),
        ({"groups": [{"name": "n", "numbers": [0]}]}, "greater than or equal to 1"),
        ({"groups": [{"name": "n", "numbers": [1] * 4}]}, "at most 3 items"),
        ({"best": 3}, "less than or equal to 2"),
        ({"why": "secret"}, "a secret"),
    ],
)
def test_bounds_are_validated_guided_or_not(changes, reason, guided):
    reply = json.dumps(GOOD | changes)
    if reason is None:
        found = read_reply(NARROW, reply, guided=guided, context={})
        assert isinstance(found, Groups)
        assert found.model_dump() == GOOD
        return
    with pytest.raises(ValidationError, match=reason):
        read_reply(NARROW, reply, guided=guided, context={})


def test_a_text_step_is_bounded_too():
    class Words(ReplyModel):
        words: Annotated[str, text(20, "what you say")]

    step = Step("talk", "verbalise", Words, mode="text").bounded(words=5)
    assert step.form.startswith("Answer with plain text of at most 5 characters")
    with pytest.raises(ValidationError):
        read_reply(step, "longer", guided=True, context={})


def test_an_unknown_field_cannot_be_bounded():
    with pytest.raises(ValueError, match="Groups has no field 'nothing' to bound"):
        GROUP.bounded(nothing=3)


def test_the_closing_line_names_the_fields_of_the_reply():
    class Words(ReplyModel):
        words: Annotated[str, text(20)]

    assert GROUP.closing == (
        'Answer now with one JSON object with the fields "why", "groups" and "best", '
        "and nothing else."
    )
    assert 'with the field "words", and' in Step("talk", "verbalise", Words).closing
    plain = Step("talk", "verbalise", Words, mode="text").closing
    assert plain == "Answer now with plain text and nothing else."


class Kinds(ReplyModel):
    sql: Annotated[Annotated[str, text(9)] | None, Field(description="write SQL, or null")]
    titles: Annotated[list[Annotated[str, text(9)]], Field(max_length=2)]
    number: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(max_length=1)]
    three: Literal["a", "b", "c"]
    one: Literal["x"]
    flag: bool
    share: Annotated[float, Field(ge=0, le=1)]


def test_the_form_says_the_kind_of_every_field():
    assert Step("kinds", "decide", Kinds).form.splitlines()[1:] == [
        '- "sql": a string of at most 9 characters or null. Write SQL, or null.',
        '- "titles": a list of at most 2 strings.',
        '- "number": a list of at most 1 whole number from 1 to 9.',
        '- "three": "a", "b" or "c".',
        '- "one": "x".',
        '- "flag": true or false.',
        '- "share": a number from 0 to 1.',
    ]


# Imperatives; add yours.
VERBS = ("Accept", "Ask", "Choose", "Compare", "Conclude", "Give", "Name", "Order", "Put", "Say")
VERBS += ("Analyse", "Infer", "List", "Rate", "Set", "Summarise", "Weigh", "Write")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_field_is_described_by_an_instruction_that_is_no_answer(step):
    """A small model copies what reads like an answer: "what you say, in the words of the user"."""
    described = 0
    for schema in _objects(step.schema):
        for name, part in schema["properties"].items():
            what = part.get("description")
            if what is None:
                assert "enum" in part, f"{name} is not described"
                continue
            described += 1
            assert re.split(r"\W", what)[0] in VERBS, f"{name}: {what}"
            assert what.endswith(".")
            assert what in step.form
    assert described


def _objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *schema.get("$defs", {}).values()]
