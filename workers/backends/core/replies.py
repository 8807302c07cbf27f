"""Replies made without a model: a rule's answer fitted into a schema, or random.

Schemas are those of `Step.schema`: of an object, whose reply is JSON, or of the single string of a
text step, whose reply is that text.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# One encoder for all: making one costs as much as a reply.
_encode = json.JSONEncoder(ensure_ascii=False).encode

# fmt: off
_LEXICON = [
    "amber", "basket", "candle", "dapple", "ember", "fable", "garden", "harbour", "island",
    "jasper", "kettle", "lantern", "meadow", "nectar", "orchard", "pebble", "quarry", "ribbon",
    "saddle", "timber", "umbrella", "velvet", "willow", "yonder", "zephyr",
]
# fmt: on


@dataclass(slots=True)
class Answer:
    """A rule's answer, before it is fitted into a reply schema."""

    acts: bool = True
    text: str = "I see."
    names: Sequence[str] = ()
    share: float = 1.0  # for numbers: 0 is the lowest that the schema allows, 1 the highest
    numbers: Sequence[int] = ()  # places on the table, from 1, of what is named
    groups: Sequence[Group] = ()
    amounts: Sequence[float] = ()  # of money, as the words on view name them


class Group(NamedTuple):
    """A group of the listed things, by their places, from 1."""

    name: str
    numbers: Sequence[int]


def fill(schema: Mapping[str, Any], answer: Answer) -> str:
    """A reply for `schema` that expresses `answer`."""
    return _written(_fill(schema, schema.get("$defs", {}), answer))


def random_reply(schema: Mapping[str, Any], rng: random.Random) -> str:
    """A random valid reply for `schema`."""
    return _written(_random(schema, schema.get("$defs", {}), rng))


def _written(reply: Any) -> str:
    return reply if isinstance(reply, str) else _encode(reply)


def _fill(schema: Mapping[str, Any], defs: Mapping[str, Any], answer: Answer) -> Any:
    schema = _resolve(schema, defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0 if answer.acts else -1]
    kind = schema.get("type")
    if kind == "object":
        return {n: _fill(s, defs, answer) for n, s in schema.get("properties", {}).items()}
    if kind == "array":
        filled = _elements(_resolve(schema["items"], defs), defs, answer)
        filled = filled[: schema.get("maxItems", len(filled))]
        while len(filled) < schema.get("minItems", 0):
            filled.append(_fill(schema["items"], defs, Answer(text="nothing")))
        return filled
    if kind in ("integer", "number"):
        low, high = _bounds(schema)
        value = low + answer.share * (high - low)
        return round(value) if kind == "integer" else value
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    return answer.text[: schema.get("maxLength", len(answer.text))]


def _elements(schema: Mapping[str, Any], defs: Mapping[str, Any], answer: Answer) -> list[Any]:
    """The elements that `answer` has for a list with this schema: numbers, amounts, groups or
    names."""
    if schema.get("type") == "integer":
        low, high = _bounds(schema)
        return [number for number in answer.numbers if low <= number <= high]
    if schema.get("type") == "number":
        low, high = _bounds(schema)
        return [amount for amount in answer.amounts if low <= amount <= high]
    if schema.get("type") == "object" and answer.groups:
        named = [Answer(text=g.name, names=[g.name], numbers=g.numbers) for g in answer.groups]
    else:
        named = [Answer(text=name, names=[name]) for name in answer.names]
    return [_fill(schema, defs, each) for each in named]


def _random(schema: Mapping[str, Any], defs: Mapping[str, Any], rng: random.Random) -> Any:
    schema = _resolve(schema, defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return {n: _random(s, defs, rng) for n, s in schema.get("properties", {}).items()}
    if kind == "array":
        least = schema.get("minItems", 0)
        count = rng.randint(least, min(schema.get("maxItems", least + 5), least + 5))
        return [_random(schema["items"], defs, rng) for _ in range(count)]
    if kind in ("integer", "number"):
        low, high = _bounds(schema)
        return (
            rng.randint(math.ceil(low), int(high)) if kind == "integer" else rng.uniform(low, high)
        )
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    words = " ".join(rng.choices(_LEXICON, k=rng.randint(1, 4)))
    return words[: schema.get("maxLength", len(words))].ljust(schema.get("minLength", 0), "o")


def _resolve(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows a reference; among alternatives, takes the first."""
    while True:
        if "$ref" in schema:
            schema = defs[schema["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            return schema


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    return low, max(low, schema.get("maximum", schema.get("exclusiveMaximum", low + 10)))
