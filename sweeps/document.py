"""YAML as sweep files and overrides use it: one document, read by the core schema of YAML 1.2.

- Numbers are `1e1`, `.5e3`, `0o17`, `0x1f` and, beyond the schema, `1_000`. Only `true` and `false`
  are booleans: `on`, `yes`, dates and `12:30` are text.
- Keys are text, as written. `<<` merges a mapping, as in YAML 1.1.
- Depth and the expansion of aliases are limited, so that a file cannot exhaust its reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

KeyPath = tuple[str, ...]

_DEEPEST = 50
_MOST_ALIASED = 100_000  # values that aliases may add to those of the text
_LONGEST_INTEGER = 400  # digits; no float and no JSON reader takes more

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+(?:_[0-7]+)*|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_SCHEMA = (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT))
_ENDS = "unexpected end of stream"
_FLAG_WORDS = {"on": "true", "yes": "true", "off": "false", "no": "false"}
_OCTAL = re.compile(r"[-+]?0[0-9_]+\Z")
_BINARY = re.compile(r"[-+]?0b[01_]+\Z")


class NotYaml(ValueError):
    """The text is not such a document. `line` counts from 1; `message` is one line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = " ".join(message.split())


@dataclass
class Document:
    """A document as plain data, with the location of each part."""

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Path of keys and positions -> line of the key or list item."""
    plain: dict[KeyPath, str] = field(default_factory=dict)
    """Path -> unquoted scalar as written, if its value does not show how it was written."""

    def below(self, key: str) -> Document:
        """The part of a mapping under this key."""
        return Document(
            self.value[key],
            {path[1:]: line for path, line in self.lines.items() if path[:1] == (key,)},
            {path[1:]: text for path, text in self.plain.items() if path[:1] == (key,)},
        )


def parse_document(text: str) -> Document:
    """The document that `text` holds. Raises NotYaml."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(plain={(): ""})
        found = Document()
        found.value = _Expansion(found, loader.nodes).value(node, (), 0)
        return found
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYaml(
            line, f"the character U+{_code(error.character):04X} is not allowed"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.context == "while scanning a quoted scalar" and _ENDS in str(error.problem):
            mark = error.context_mark  # the end of the text says nothing
        line, column = (mark.line, mark.column) if mark else (0, 0)
        before = text.split("\n")[line][:column]
        raise NotYaml(line + 1, _in_words(error, before)) from None
    finally:
        if loader is not None:
            loader.dispose()


def flow(value: Any) -> str:
    """`value` on one line, in a form that readers of YAML 1.1 and 1.2 understand alike."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=10**6,
        allow_unicode=True,
    )  # fmt: skip
    return text.removesuffix("...\n").strip()


def ambiguous(written: str) -> str | None:
    """How to write a plain scalar that YAML 1.1 and 1.2 read differently; None if it is
    unambiguous."""
    if written.lower() in _FLAG_WORDS:
        return _FLAG_WORDS[written.lower()]
    if _OCTAL.match(written):
        digits = written.replace("_", "").lstrip("+-").lstrip("0") or "0"
        octal = "" if set(digits) & set("89") else f" (or 0o{digits} if it is octal)"
        return f"{'-' if written.startswith('-') else ''}{digits}{octal}"
    if _BINARY.match(written):
        return str(int(written.replace("_", ""), 2))
    return None


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's components with the resolver of the core schema, and a depth limit."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.nodes = 0
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.nodes += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _too_deep(self.peek_event().start_mark.line)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def resolve(self, kind: type[Node], value: str | None, implicit: Any) -> str:
        """The tag of a node without an explicit one; `implicit` begins with True for a plain
        scalar."""
        if kind is ScalarNode and implicit[0]:
            text = value or ""
            return _TAG + next((name for name, form in _SCHEMA if form.match(text)), "str")
        return super().resolve(kind, value, implicit)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 does not read as a number, but this module does."""


for _name, _form in (("int", _INT), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(_TAG + _name, _form, list("+-.0123456789"))


class _Expansion:
    """Turns nodes into values, and aliases and merged mappings into copies."""

    def __init__(self, found: Document, nodes: int) -> None:
        self._found = found
        self._left = nodes + _MOST_ALIASED
        self._open: set[int] = set()

    def value(self, node: Node, path: KeyPath, depth: int) -> Any:
        line = node.start_mark.line
        self._left -= 1
        if self._left < 0:
            raise NotYaml(line + 1, f"its aliases add more than {_MOST_ALIASED:,} values")
        if depth > _DEEPEST:
            raise _too_deep(line)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise NotYaml(line + 1, "an alias (*name) is inside the value it refers to")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path, depth)
            assert isinstance(node, SequenceNode)
            _only_tag(node, "seq")
            items = []
            for index, item in enumerate(node.value):
                here = (*path, str(index))
                self._found.lines[here] = item.start_mark.line + 1
                items.append(self.value(item, here, depth + 1))
            return items
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        _only_tag(node, "map")
        own: dict[str, Any] = {}
        merged: list[Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                kind = "mapping" if isinstance(key, MappingNode) else "list"
                raise NotYaml(
                    line, f"found a {kind} as a key; text that begins with {{ or [ needs quotes"
                )
            if key.value == "<<" and key.style is None:
                merged += _mappings_of(value, line)
                continue
            name = _text(key)
            if name in own:
                raise NotYaml(line, f"the key {name!r} is given twice")
            here = (*path, name)
            own[name] = None
            self._found.lines[here] = line
            own[name] = self.value(value, here, depth + 1)
        for other in merged:
            aside = _Expansion(Document(), 0)
            aside._left, aside._open = self._left, self._open
            inherited = aside.value(other, path, depth + 1)
            self._left = aside._left
            for name in inherited.keys() - own.keys():
                self._adopt(aside._found, (*path, name))
            own = {**inherited, **own}
        return own

    def _adopt(self, other: Document, path: KeyPath) -> None:
        size = len(path)
        self._found.lines |= {k: v for k, v in other.lines.items() if k[:size] == path}
        self._found.plain |= {k: v for k, v in other.plain.items() if k[:size] == path}

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        line, written = node.start_mark.line + 1, node.value
        tag = node.tag.removeprefix(_TAG)
        if node.style is None and (
            ambiguous(written) is not None or tag in ("int", "float", "null")
        ):
            self._found.plain[path] = written
        if tag == "str":
            return _text(node)
        form = dict(_SCHEMA).get(tag)
        if form is None:
            raise NotYaml(line, f"the tag {_shown_tag(node.tag)} is not supported in sweep files")
        if form.match(written) is None and not (tag == "float" and _INT.match(written)):
            raise NotYaml(line, f"{written!r} is not of the type {_shown_tag(node.tag)}")
        value = _value_of(tag, written, line)
        if str(value) == written and ambiguous(written) is None:
            self._found.plain.pop(path, None)
        return value


def _value_of(tag: str, written: str, line: int) -> Any:
    if tag == "null":
        return None
    if tag == "bool":
        return written.lower() == "true"
    digits = written.replace("_", "")
    if tag == "float":
        return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if len(digits) > _LONGEST_INTEGER:
        raise NotYaml(line, f"a number of {len(digits):,} digits is too long")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    return int(digits, base)


def _text(node: ScalarNode) -> str:
    """The text of a scalar, with escaped surrogate pairs (`\\ud83d\\ude00`) combined."""
    try:
        return node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise NotYaml(
            node.start_mark.line + 1, "found a lone surrogate, which is not a character"
        ) from None


def _mappings_of(node: Node, line: int) -> Iterator[Node]:
    """The mappings that a `<<` names, in merging order: the first of a list has priority."""
    nodes = node.value if isinstance(node, SequenceNode) else [node]
    if not all(isinstance(each, MappingNode) for each in nodes):
        raise NotYaml(line, "<< merges a mapping, or a list of mappings")
    yield from nodes


def _only_tag(node: Node, kind: str) -> None:
    if node.tag != _TAG + kind:
        raise NotYaml(
            node.start_mark.line + 1,
            f"the tag {_shown_tag(node.tag)} is not supported in sweep files",
        )


def _shown_tag(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _too_deep(line: int) -> NotYaml:
    return NotYaml(line + 1, f"is nested more than {_DEEPEST} levels deep")


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


def _in_words(error: yaml.MarkedYAMLError, before: str) -> str:
    """What PyYAML says, with what to do where it is known; `before` is the line up to there."""
    problem = str(error.problem or error.context)
    if "'\\t'" in problem and before.strip():
        return f"found a tab after {before.strip()!r}; use a space"
    if error.context == "while scanning a quoted scalar" and _ENDS in problem:
        return "the quote that begins here is not closed"
    if "'\\t'" in problem:
        return "a tab is used for indentation; use spaces"
    if "cannot start any token" in problem:
        return f"{problem}; put text that begins with it in quotes"
    if "mapping values are not allowed" in problem:
        return f"{problem}; check the indentation, and put text that holds ': ' in quotes"
    if "undefined alias" in problem or "alias" in str(error.context):
        return f"{problem}; put text that begins with * in quotes"
    if "found another document" in problem:
        return "found a second document after ---; a sweep file holds one"
    if "unknown escape character" in problem:
        return f"{problem}; in double quotes, a backslash is written twice"
    return problem
