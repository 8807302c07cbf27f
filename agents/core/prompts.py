"""Prompt templates: Jinja2 files in the plug-in's folder, rendered as one chat message each.

- `<step>.md.j2` in the plug-in's `prompts/` folder (`prompts/<module>/` for a plug-in that is a
  single file), or in that of a base class; a step without a file uses `agents/core/prompts/`.
- An undefined field is an error (StrictUndefined), never an empty string.
- `Ask` adds the step's closing line, which asks for the reply (`Step.closing`).
- Fixed instructions come first, then the growing dialogue, then what is new in a turn, so that
  prefix caching works.
- `{{ conversation | words }}` and `{{ items | titles }}` write out what most prompts need,
  `{{ items | described }}` titles with attributes, `{{ items | detailed }}` all that is known.
- `{{ table | schema }}` writes out a table's columns.
- `{{ text | fenced("dialogue") }}` puts untrusted text between tags that it cannot close
  (`agents.core.fence`).
- Values are put in as they are: a template gives no markup that a value could break.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import jinja2.meta

from agents.core.calls import Shown
from agents.core.dialogue import Message
from agents.core.errors import PromptError, UsageError
from agents.core.fence import fenced
from agents.core.items import Item, with_article
from agents.core.tables import CatalogueTable, schema_text

_SHARED = Path(__file__).parent / "prompts"
_SUFFIX = ".md.j2"


class _Tracking(jinja2.Environment):
    """Records which attributes of which objects a rendering reads, while `seen` is a set."""

    seen: set[tuple[int, str]] | None = None

    def getattr(self, obj: Any, attribute: str) -> Any:
        if self.seen is not None:
            self.seen.add((id(obj), attribute))
        try:
            return getattr(obj, attribute)
        except AttributeError:
            return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if self.seen is not None and isinstance(argument, str):
            self.seen.add((id(obj), argument))
        return super().getitem(obj, argument)


@jinja2.pass_environment
def _words(env: _Tracking, messages: Iterable[Message]) -> str:
    """`{{ conversation | words }}`: one line per message, and what was shown with it.

    One line, whatever its words hold: a second one could pass for the other's.
    """
    seen, lines = env.seen, []
    for message in messages:
        lines.append(f"{message.speaker}: {' '.join(message.text.split())}")
        if message.shown:
            lines.append(f"  (shown: {'; '.join([item.title for item in message.shown])})")
        if seen is not None:
            owner = id(message)
            seen.update(((owner, "speaker"), (owner, "text"), (owner, "shown")))
            seen.update([(id(item), "title") for item in message.shown])
    return "\n".join(lines)


@jinja2.pass_environment
def _titles(env: _Tracking, items: Sequence[Item]) -> str:
    """`{{ items | titles }}`: one line per item, `(none)` without items."""
    if env.seen is not None:
        env.seen.update([(id(item), "title") for item in items])
    return "\n".join([f"- {item.title}" for item in items]) or "(none)"


@jinja2.pass_environment
def _described(env: _Tracking, items: Sequence[Item]) -> str:
    """`{{ items | described }}`: a line an item, with its attributes after a bar."""
    if env.seen is not None:
        for item in items:
            env.seen.update(((id(item), "title"), (id(item), "attributes")))
            env.seen.add((id(item.attributes), "items"))
    lines = []
    for item in items:
        known = "; ".join(f"{name}: {', '.join(v)}" for name, v in item.attributes.items())
        lines.append(f"- {item.title} | {known}" if known else f"- {item.title}")
    return "\n".join(lines) or "(none)"


@jinja2.pass_environment
def _detailed(env: _Tracking, items: Sequence[Item]) -> str:
    """`{{ items | detailed }}`: a line an item, and below it all that the catalogue has on it."""
    if env.seen is not None:
        for item in items:
            names = ("title", "attributes", "description", "price")
            env.seen.update([(id(item), name) for name in names])
            env.seen.add((id(item.attributes), "items"))
    lines: list[str] = []
    for item in items:
        known = {name: ", ".join(values) for name, values in item.attributes.items()}
        if item.price is not None:
            known["price"] = f"{item.price:.15g}"  # six digits would round 12999.99
        if item.description:
            known["description"] = " ".join(item.description.split())
        lines.append(f"- {item.title}")
        lines += [f"  {name}: {value}" for name, value in known.items()]
    return "\n".join(lines) or "(none)"


@jinja2.pass_environment
def _schema(env: _Tracking, table: CatalogueTable) -> str:
    """`{{ table | schema }}`: the table's name, and one line per column."""
    if env.seen is not None:
        env.seen.update([(id(table), "name"), (id(table), "columns")])
        for column in table.columns:
            env.seen.update([(id(column), name) for name in ("name", "type", "values")])
    return schema_text(table)


class PromptFolder:
    """The templates of one plug-in. Compiled once, on first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = env = _Tracking(
            loader=jinja2.FileSystemLoader([folder, _SHARED]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            auto_reload=False,
        )
        env.filters["words"] = _words
        env.filters["titles"] = _titles
        env.filters["described"] = _described
        env.filters["detailed"] = _detailed
        env.filters["schema"] = _schema
        env.filters["fenced"] = fenced
        env.filters["with_article"] = with_article
        self._templates: dict[str, jinja2.Template] = {}

    def render(self, step: str, fields: Mapping[str, Any]) -> str:
        """The prompt of `step`. Raises PromptError if the template is missing or broken."""
        template = self._templates.get(step) or self._compile(step)
        try:
            return template.render(fields).strip()
        except jinja2.TemplateError as error:
            raise PromptError(f"prompt {self.where(step)}: {error.message}") from error

    def render_shown(self, step: str, fields: Mapping[str, Any]) -> tuple[str, Shown]:
        """The prompt, and what the template read."""
        self._env.seen = seen = set()
        try:
            prompt = self.render(step, fields)
        finally:
            self._env.seen = None
        return prompt, Shown(_names(self._env, step + _SUFFIX), frozenset(seen))

    def digest(self) -> str:
        """Hex digest of every template that could take part: this folder's and the shared ones.

        Of shared ones in folders (`sales/`), only those that this folder refers to.
        """
        digest = hashlib.blake2b(digest_size=16)
        own = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*.j2")}
        shared = {p.name: p for p in _SHARED.glob("*.j2")}
        shared |= _referred_to(self._env, own.values())
        for name, path in sorted({**shared, **own}.items()):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def check(self, step: str) -> None:
        """Raises PromptError if the template of `step` is missing or cannot be parsed."""
        if step not in self._templates:
            self._compile(step)

    def where(self, step: str) -> str:
        return str(self.folder / (step + _SUFFIX))

    def _compile(self, step: str) -> jinja2.Template:
        try:
            template = self._env.get_template(step + _SUFFIX)
        except jinja2.TemplateNotFound:
            raise PromptError(f"there is no prompt {self.where(step)}") from None
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(f"prompt {error.filename}:{error.lineno}: {error.message}") from None
        except OSError as error:  # of this machine, and no fault of who speaks
            reason = f"cannot be read: {error.strerror or error}"
            raise PromptError(
                f"prompt {self.where(step)} {reason}", blame="infrastructure"
            ) from error
        # A plain mapping: Jinja's own is a chain that is walked in Python at every rendering.
        template.globals = dict(template.globals)
        self._templates[step] = template
        return template


@cache
def _names(env: jinja2.Environment, file: str) -> frozenset[str]:
    assert env.loader is not None
    source, _, _ = env.loader.get_source(env, file)
    tree = env.parse(source)
    found = jinja2.meta.find_undeclared_variables(tree)
    for other in jinja2.meta.find_referenced_templates(tree):
        if other is not None:
            found |= _names(env, other)
    return frozenset(found)


def _referred_to(env: jinja2.Environment, paths: Iterable[Path]) -> dict[str, Path]:
    """The templates in folders of the shared ones that the templates at `paths` refer to."""
    found: dict[str, Path] = {}
    left = list(paths)
    while left:
        try:
            tree = env.parse(left.pop().read_text(encoding="utf-8"))
        except (jinja2.TemplateSyntaxError, UnicodeDecodeError):
            continue  # `check` says so of a template that is used
        for name in jinja2.meta.find_referenced_templates(tree):
            if name is not None and "/" in name and name not in found:
                path = _SHARED / name
                if path.is_file():
                    found[name] = path
                    left.append(path)
    return found


@cache
def prompt_folder(plugin: ModuleType, swapped: str | None) -> PromptFolder:
    """The prompt folder of a plug-in's module, or the one that its option `prompts` names.

    A plug-in without a folder uses that of the nearest base class that has one.
    """
    if swapped is not None:
        if not Path(swapped).is_dir():
            raise UsageError(f"prompts: {swapped} is not a folder")
        return PromptFolder(Path(swapped))
    own = _own_folder(plugin)
    inherited = (_own_folder(base) for base in _bases(plugin))
    return PromptFolder(next((each for each in (own, *inherited) if each.is_dir()), own))


def _own_folder(plugin: ModuleType) -> Path:
    assert plugin.__file__ is not None
    file = Path(plugin.__file__)
    own = "prompts" if file.name == "__init__.py" else f"prompts/{file.stem}"
    return file.parent / own


def _bases(plugin: ModuleType) -> Iterator[ModuleType]:
    """The modules of the base classes of what a plug-in exports, the nearest first."""
    for name in getattr(plugin, "__all__", ()):
        for base in getattr(getattr(plugin, name), "__mro__", ())[1:-1]:
            found = sys.modules[base.__module__]
            if getattr(found, "__file__", None):
                yield found
