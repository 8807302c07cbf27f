"""The longest reply that a schema allows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def longest_reply(schema: Mapping[str, Any]) -> int | None:
    """The maximum length in characters of a reply that follows `schema`, without spaces; None if
    unbounded."""
    return _longest(schema, schema, 0)


def _longest(root: Mapping[str, Any], part: Mapping[str, Any], depth: int) -> int | None:
    if depth > 32:  # refers to itself
        return None
    if "$ref" in part:
        target: Any = root
        for key in str(part["$ref"]).removeprefix("#/").split("/"):
            target = target.get(key, {})
        return _longest(root, target, depth + 1)
    if "const" in part:
        return len(json.dumps(part["const"]))
    if "enum" in part:
        return max(len(json.dumps(value)) for value in part["enum"])
    either = part.get("anyOf") or part.get("oneOf")
    if either:
        known = [_longest(root, each, depth + 1) for each in either]
        return None if None in known else max(n for n in known if n is not None)
    kind = part.get("type")
    if kind == "object":
        return _longest_object(root, part, depth)
    if kind == "array":
        inner = _longest(root, part.get("items", {}), depth + 1)
        most = part.get("maxItems")
        return None if inner is None or most is None else 2 + max(0, most * (inner + 1) - 1)
    if kind == "string":
        most = part.get("maxLength")
        return None if most is None else most + 2
    if kind == "integer" and {"minimum", "maximum"} <= part.keys():
        return max(len(str(part[end])) for end in ("minimum", "maximum"))
    return {"boolean": 5, "null": 4, "integer": 20, "number": 24}.get(str(kind))


def _longest_object(root: Mapping[str, Any], part: Mapping[str, Any], depth: int) -> int | None:
    if part.get("additionalProperties", True) is not False:
        return None
    total = 2
    for name, inner in part.get("properties", {}).items():
        length = _longest(root, inner, depth + 1)
        if length is None:
            return None
        total += len(json.dumps(name)) + 2 + length
    return total - bool(part.get("properties"))  # the last one has no comma
