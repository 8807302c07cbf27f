"""One name, one meaning: no two classes or named types of the project share a name."""

import ast
from collections import defaultdict

import pytest

from runner.entry import PACKAGES
from tests.conftest import ROOT
from tests.own_files import own_files


def types_in(source: str) -> list[str]:
    """The public classes and the named types (`Kind = Literal[...]`) of a module."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():  # capitals are a constant
                found.append(name)
    return found


def test_no_two_types_have_one_name():
    places = defaultdict(list)
    for path in own_files((".py",)):
        module = path.relative_to(ROOT)
        if module.parts[0] in PACKAGES:
            for name in types_in(path.read_text(encoding="utf-8")):
                places[name].append(str(module))
    assert len(places) > 500
    assert {name: found for name, found in places.items() if len(found) > 1} == {}, (
        "name one of them apart, by the term that the field uses for it"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class Turn: ...\nclass CSI: ...", ["Turn", "CSI"]),
        ("Kind = Literal['fit', 'loop']", ["Kind"]),
        ("class _Turn: ...\nLIMIT = 3\nT = TypeVar('T')\nlog = 1\ndef Turn(): ...", []),
        ("class Turn:\n    class Options: ...", ["Turn"]),
    ],
)
def test_classes_and_named_types_are_found(source, expected):
    assert types_in(source) == expected
