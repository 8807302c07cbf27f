"""`crsweep schema`: the JSON schema of sweep files, by which editors complete and check them.

- It is draft 7, which editors support best, and knows the options of every plug-in.
- A file may be a part of others (`extends`, overrides), so nothing is required.
- Where a value may be, so may be a reference `${...}`.
- Beyond it `crsweep plan` checks what depends on other values, on files or on installed packages.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel

from agents.core import plugins
from agents.policies.core.network import POLICIES, NetworkRef
from agents.recommenders.core import RECOMMENDERS, RecommenderRef
from analysis.metrics.core import METRICS
from simulators.core.critic import CRITICS
from simulators.core.judge import JUDGES
from sweeps.cells import SUCCESS
from sweeps.schema import ROLES, CellConfig, Header, JudgeRef, ModelSpec
from sweeps.sources import DOMAINS
from sweeps.speakers import AGENTS, USERS
from workers.models import BACKENDS

Schema = dict[str, Any]

_PATTERN: Schema = {"pattern": r"\$\{"}
_REFERENCE: Schema = {"type": "string", **_PATTERN}
_NULL: Schema = {"type": "null"}
_DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ROLE = rf"({'|'.join(ROLES)})(\.[A-Za-z0-9_.-]+)?"
# Judges do not affect dialogues, so their models do not create cells.
_ROLE_AXIS = rf"({'|'.join(role for role in ROLES if role != 'judge')})(\.[A-Za-z0-9_.-]+)?"
_KINDS = {
    "domain": (DOMAINS, "name"),
    "agent": (AGENTS, "name"),
    "simulator": (USERS, "name"),
    "critic": (CRITICS, "name"),
    "success": (SUCCESS, "name"),
    "recommender": (RECOMMENDERS, "name"),
    "network": (POLICIES, "name"),
    "judge": (JUDGES, "name"),
    "model": (BACKENDS, "backend"),
}
_PLAYED = ("domain", "agent", "simulator", "critic", "success")
"""Kinds of plug-ins that a cell has exactly one of."""
_REFERENCES = {RecommenderRef.__name__: "recommender", NetworkRef.__name__: "network"}
"""Options whose value is a plug-in, with its kind."""
_COMMON: dict[str, type[BaseModel]] = {"judge": JudgeRef, "model": ModelSpec}
"""Keys that entries of a kind have besides the options of their plug-in."""


def sweep_schema() -> Schema:
    """The schema. The same plug-ins always give the same schema."""
    header, cell = _properties(Header), _properties(CellConfig)
    properties = {**header, **cell}
    for kind in _PLAYED:
        properties[kind] = _pointer(kind)
    properties["models"] = {
        "description": "Name -> a model: its backend, and the backend's options.",
        "type": "object",
        "propertyNames": {"pattern": f"^{_MODEL}$"},
        "additionalProperties": _pointer("model"),
    }
    properties["roles"] = {
        "description": "Role -> name of its model; agent.planner falls back to agent.",
        "type": "object",
        "propertyNames": {"pattern": f"^{_ROLE}$"},
        "additionalProperties": {"type": "string"},
    }
    off = {"enum": ["off", False], "description": "Short for {mode: off}."}
    properties["cache"] = {"anyOf": [properties["cache"], off]}
    listed = _or_reference({"type": "array", "items": _pointer("axes")})
    properties |= {
        "extends": {"type": "string", "description": "A base file, relative to this one."},
        "vars": {"type": "object", "description": "Values that are referred to as ${vars.name}."},
        "grid": {**_pointer("axes"), "description": "Axes: dotted path -> list of values."},
        "grids": {**listed, "description": "Blocks of axes, whose union is run."},
        "zip": {**listed, "description": "Axes whose lists advance together."},
        "exclude": {
            "description": "Grid points to skip: each entry gives the axis values to match.",
            **_or_reference({"type": "array", "items": _pointer("point")}),
        },
        "judges": _or_reference({"type": "array", "items": _pointer("judge")}),
        "metrics": _or_reference({"type": "array", "minItems": 1, "items": _metric()}),
    }
    axes = dict(_axes(cell))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A sweep file of crsweep",
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "additionalProperties": False,
        "definitions": {
            "reference": _REFERENCE,
            **{kind: _plugin(kind) for kind in _KINDS},
            "axes": {
                "type": "object",
                "patternProperties": {
                    path: _or_reference({"type": "array", "minItems": 1, "items": values})
                    for path, values in axes.items()
                },
                "additionalProperties": False,
            },
            "point": {
                "type": "object",
                "patternProperties": {path: {} for path in axes},
                "additionalProperties": False,
            },
        },
    }


def _plugin(kind: str) -> Schema:
    """A plug-in by name, or a mapping with its name and options."""
    package, key = _KINDS[kind]
    names = plugins.names(package)
    options = {name: _options(package, name) for name in names}
    common = _properties(_COMMON[kind]) if kind in _COMMON else {}
    common = {name: schema for name, schema in common.items() if name != key}
    chosen = {"enum": names, "description": f"Which {kind}: one of crsweep's, or a dotted name."}
    named = {"anyOf": [chosen, {"type": "string", "pattern": _DOTTED}, _pointer("reference")]}
    one_of_all = sorted({key, *common, *(each for given in options.values() for each in given)})
    mapping: Schema = {
        "type": "object",
        "properties": {key: named},
        "allOf": [
            {
                "if": {"required": [key], "properties": {key: {"const": name}}},
                "then": {
                    "description": _summary(package, name),
                    "properties": {key: {}, **common, **given},
                    "additionalProperties": False,
                },
            }
            for name, given in options.items()
        ],
        "if": {"not": {"required": [key]}},
        "then": {"propertyNames": {"enum": one_of_all}},
    }
    if kind == "model":
        return _or_reference(mapping)
    # A pattern and not `anyOf`: the mistake in a mapping is then named as such.
    short = "|".join([f"^({'|'.join(names)})$", _DOTTED, _PATTERN["pattern"]])
    return {**mapping, "type": ["string", "object"], "pattern": short, "examples": names}


def _axes(cell: Mapping[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Maps patterns of axis paths to the schema of one value."""
    for kind in _PLAYED:
        yield f"^{kind}$", _pointer(kind)
        package, _ = _KINDS[kind]
        for name, schema in _union([_options(package, n) for n in plugins.names(package)]):
            yield f"^{kind}\\.{name}$", schema
            yield f"^{kind}\\.{name}\\..+$", {}
    for part in ("limits", "seeds", "cases"):
        yield f"^{part}$", cell[part]
        for name, schema in _fields(cell[part]).items():
            if name not in ("sample", "sample_seed"):
                yield f"^{part}\\.{name}$", schema
    yield "^seed$", cell["seed"]
    yield f"^roles\\.{_ROLE_AXIS}$", {"type": "string"}
    yield r"^models\.[A-Za-z0-9_-]+$", _pointer("model")
    backends = [_options(BACKENDS, name) for name in plugins.names(BACKENDS)]
    yield f"^models\\.{_MODEL}\\.backend$", {"enum": plugins.names(BACKENDS)}
    for name, schema in _union(backends):
        yield f"^models\\.{_MODEL}\\.{name}$", schema
        yield f"^models\\.{_MODEL}\\.{name}\\..+$", {}


def _union(options: Sequence[Mapping[str, Schema]]) -> Iterator[tuple[str, Schema]]:
    """All options of some plug-ins, with every value that any of them accepts."""
    for name in sorted({name for given in options for name in given}):
        found: list[Schema] = []
        for given in options:
            if name in given and given[name] not in found:
                found.append(given[name])
        yield name, found[0] if len(found) == 1 else {"anyOf": found}


def _metric() -> Schema:
    names = plugins.names(METRICS)
    pattern = f"^({'|'.join(names)})(_clean)?(_completed)?(@.+)?$"
    return {"anyOf": [{"enum": names}, {"type": "string", "pattern": pattern}]}


@cache
def _options(package: str, name: str) -> Mapping[str, Schema]:
    """The schema of each option of plug-in `name`; empty if it takes none."""
    found = plugins.load(package, name, "plug-in")
    options = getattr(found, "Options", None)
    return _properties(options) if isinstance(options, type) else {}


def _summary(package: str, name: str) -> str:
    text = inspect.getdoc(plugins.load(package, name, "plug-in")) or name
    return " ".join(text.partition("\n\n")[0].split())


def _properties(model: type[BaseModel]) -> dict[str, Schema]:
    """The schema of each field, with references allowed and the field's docstring as
    description."""
    whole = model.model_json_schema(ref_template="{model}")
    parts = dict(_models_in(model))
    return _fields(_opened(whole, whole.get("$defs", {}), parts, model))


def _opened(
    schema: Schema, parts: Mapping[str, Schema], models: Mapping[str, Any], model: Any = None
) -> Schema:
    """`schema` with its definitions inlined, references allowed, and nothing required."""
    if "$ref" in schema:
        name = schema["$ref"]
        if name in _REFERENCES:
            return {**_pointer(_REFERENCES[name]), **_kept(schema)}
        return {**_opened(parts[name], parts, models, models.get(name)), **_kept(schema)}
    found = {
        key: value
        for key, value in schema.items()
        if key not in ("$defs", "title", "required", "format", "anyOf", "properties", "items")
    }
    if schema.get("default", ...) is None:
        found.pop("default")
    if "anyOf" in schema:
        choices = [_opened(each, parts, models) for each in schema["anyOf"] if each != _NULL]
        if _NULL not in schema["anyOf"]:
            return {"anyOf": choices, **_kept(found)}
        if len(choices) == 1 and "type" in choices[0]:
            return {**choices[0], "type": [*_types_of(choices[0]), "null"], **_kept(found)}
        return {"anyOf": [*choices, _NULL], **_kept(found)}
    if "items" in schema:
        found["items"] = _opened(schema["items"], parts, models)
    if "patternProperties" in schema:
        found["patternProperties"] = {
            pattern: _opened(each, parts, models)
            for pattern, each in schema["patternProperties"].items()
        }
    if "properties" in schema:
        docs = _docs(model) if model is not None else {}
        found["properties"] = {
            name: {**_opened(each, parts, models), **docs.get(name, {})}
            for name, each in schema["properties"].items()
        }
        found.pop("description", None)
    return _or_reference(found)


def _or_reference(schema: Schema) -> Schema:
    """`schema`, or a reference unless the schema already accepts any text."""
    if schema.get("type") == "string" and not schema.keys() & {"enum", "pattern"}:
        return schema
    if "type" in schema and not schema.keys() & {"enum", "pattern", "const"}:
        # A pattern is for text alone, so that mistakes in what is not text are named as such.
        return {**schema, "type": [*_types_of(schema), "string"], **_PATTERN}
    kept = _kept(schema)
    rest = {key: value for key, value in schema.items() if key not in kept}
    return {"anyOf": [rest, _pointer("reference")], **kept}


def _types_of(schema: Schema) -> list[str]:
    found = schema["type"]
    return [found] if isinstance(found, str) else found


def _kept(schema: Schema) -> Schema:
    """The keywords that describe a value without constraining it."""
    return {key: schema[key] for key in ("description", "default") if key in schema}


def _fields(schema: Schema) -> dict[str, Schema]:
    """The schema of a mapping's properties."""
    return schema.get("properties", {})


def _pointer(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def _models_in(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield model.__name__, model
    for field in model.model_fields.values():
        for each in _types_in(field.annotation):
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield from _models_in(each)


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _types_in(each)


def _docs(model: type[BaseModel]) -> dict[str, Schema]:
    """The description of each field: the docstring below it."""
    found: dict[str, Schema] = {}
    for base in reversed(model.__mro__):
        if base is not BaseModel and issubclass(base, BaseModel):
            found |= _docs_of(base)
    return found


@cache
def _docs_of(model: type[BaseModel]) -> dict[str, Schema]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for line, below in pairwise(body):
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[line.target.id] = {"description": re.sub(r"\s+", " ", below.value.value).strip()}
    return found
