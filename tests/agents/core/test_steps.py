"""Schemas as guided decoding is sent them: every field where it is declared."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from agents.core import plugins
from agents.core.steps import ReplyModel, Step, text

STEPS = {
    f"{package}.{name}.{step.name}": step
    for package in ("agents", "simulators.users")
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


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_reply_says_in_words_what_it_thinks_before_it_decides(step):
    """No choice or flag comes before free text: that would be a reason made up afterwards."""
    decided = ""
    for name, schema in step.schema["properties"].items():
        if "enum" in schema or schema.get("type") == "boolean":
            decided = decided or name
        elif schema.get("type") == "string":
            assert not decided, f"{name} comes after {decided}"
