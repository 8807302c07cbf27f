"""`crsweep doctor` for an `openai` model: what its server lists, and whether a call succeeds.

Servers refuse parts of a request that others require, and only a real call shows this: here, with a
prompt and the schema of a step of the sweep. Whatever the server refuses is left out and the call
is repeated, so that all problems are reported at once, each with the option that fixes it. Refused
calls cost nothing; the successful one has the cost that is printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from agents.core.calls import Call, Completion, EmbedCall, Embedded
from agents.core.errors import (
    EngineDead,
    EngineOverloaded,
    EngineRefused,
    ModelUnavailable,
    UsageError,
    near,
)
from agents.core.reading import read_reply
from workers.backends.core.backend import Workload
from workers.backends.openai.options import OpenAIOptions
from workers.backends.openai.refusals import Refusal

_NAMED = 5  # models of a server that a line names
_SCHEMA = re.compile(
    r"response_?format|json[_ ]?schema|\bschemas?\b|grammar|guided|structured[_ ]output"
    r"|\b(min_?length|max_?length|min_?items|max_?items|pattern|minimum|maximum|\$defs|\$ref)\b",
    re.I,
)


class _Server(Protocol):
    async def listed(self) -> list[str]: ...
    async def tried(
        self, call: Call, change: Callable[[dict[str, Any]], None]
    ) -> Completion | Refusal: ...
    async def embed(self, texts: list[str]) -> Embedded: ...


class _Fix(NamedTuple):
    """How to avoid a refusal, and the option for it in the sweep file."""

    field: str
    option: str
    apply: Callable[[dict[str, Any]], None]


async def probe(server: _Server, options: OpenAIOptions, url: str, work: Workload) -> str:
    """One line on what is served. Raises if a call of `work` would be refused."""
    model, listing = options.model, ""
    try:
        served = await server.listed()
    except (EngineRefused, EngineDead, EngineOverloaded) as error:
        if not work.calls:
            raise
        served, listing = None, f"{url} lists no models ({_reason(error.message, url)})"
    if served is not None:
        listing = f"{url} serves {_some(served, model)}"
        if not _lists(served, model):
            listing = f"{url} lists no model {model!r}{near(model, served)}"
            if not work.calls:
                raise EngineRefused(f"{listing}; it serves {_some(served, model)}")
    if not work.calls:
        return listing
    try:
        return f"{listing}; {await _try(server, options, work)}"
    except ModelUnavailable as error:
        if served is None or _lists(served, model):
            raise
        raise ModelUnavailable(f"{listing}; {error.message}") from None


async def _try(server: _Server, options: OpenAIOptions, work: Workload) -> str:
    call = _typical_call(work)
    if isinstance(call, EmbedCall):
        found = await server.embed([call.messages[0].content])
        return f"embedded one text in {found.vectors.shape[1]} dimensions, which cost one call"
    fixes: list[_Fix] = []

    def change(request: dict[str, Any]) -> None:
        for fix in fixes:
            fix.apply(request)

    while True:
        answer = await server.tried(call, change)
        if isinstance(answer, Completion):
            break
        fix = _fix_of(answer, options, [fix.field for fix in fixes])
        if fix is None:
            before = f"; it also needs {_options(fixes)}" if fixes else ""
            raise EngineRefused(
                f"the server refuses a call of the step {call.step.name!r}: HTTP {answer.status}: "
                f"{answer.message}{before}"
            )
        fixes.append(fix)
    if fixes:
        raise UsageError(
            f"the server refuses {', '.join(fix.field for fix in fixes)}; it answers with "
            f"{_options(fixes)} (docs/sweep-files.md, Models)"
        )
    if answer.finish_reason == "content_filter":
        counts = _counts(answer)
        return (
            f"took a call of the step {call.step.name!r}, whose reply was withheld by a content "
            f"filter{counts and f' ({counts})'}: replies of a run may be filtered too"
        )
    cost = _counts(answer) or "the server counts no tokens"
    return (
        f"answered a call of the step {call.step.name!r}, which cost one call ({cost})"
        f"{_doubts(call, answer)}"
    )


def hint_of(said: Refusal, options: OpenAIOptions) -> str:
    """A hint for an error of a run about an option that the server probably refuses; may be ""."""
    fix = _fix_of(said, options, [])
    if fix is None:
        return ""
    return f"; `{fix.option}` may avoid that: `crsweep doctor SWEEP` tries it"


def _typical_call(work: Workload) -> Call:
    """The most informative call: the schema with the most keywords, and the shortest prompt."""
    texts = [call for call in work.calls if not isinstance(call, EmbedCall)]
    if not texts:
        return work.calls[0]
    shows = {
        call.step.name: (len(_keywords(call.step.schema)), len(call.step.schema_json))
        for call in texts
    }
    most = max(shows.values())
    fitting = [call for call in texts if shows[call.step.name] == most]
    return min(fitting, key=lambda call: len(call.messages_json))


def _keywords(schema: Any) -> set[str]:
    """The keywords of a JSON schema, without names of properties and definitions."""
    if isinstance(schema, list):
        return set[str]().union(*map(_keywords, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for key, part in schema.items():
        named = key in ("properties", "$defs") and isinstance(part, dict)
        found |= _keywords(list(part.values()) if named else part)
    return found


def _some(served: list[str], model: str) -> str:
    """Some model names, the sweep's first."""
    names = sorted(served, key=lambda name: not _lists([name], model))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more or "no model"


def _fix_of(said: Refusal, options: OpenAIOptions, tried: list[str]) -> _Fix | None:
    """The fix for a refusal, if it is known and has not been tried yet."""
    words, sampling = f"{said.message} {said.words}", options.sampling
    if said.status not in (400, 422, 500, 501):
        return None
    found = [
        _sampling_fix(field, words, sampling.longest)
        for field in sampling.fields(0)
        if _names(said, words, field)
    ]
    if options.guided == "json_schema":
        if options.strict is not None and _names(said, words, "strict"):
            found.append(_Fix("strict", "strict: null", _without_strict))
        if said.about & {"response_format"} or _SCHEMA.search(words):
            found.append(_Fix("the reply's schema", "guided: none", _drop("response_format")))
    found += [
        _Fix(field, f"extra_body without {field}", _drop_extra(field))
        for field in options.extra_body
        if _names(said, words, field)
    ]
    # "temperature and top_p cannot both be specified": one of them is enough.
    fields = {fix.field for fix in found}
    if {"temperature", "top_p"} <= fields and re.search(r"\bboth\b|only one|not together", words):
        found = [fix for fix in found if fix.field != "temperature"]
    # The server's own statement of the cause comes first, words from the schema last.
    found.sort(key=lambda fix: (fix.field not in said.about, fix.field.startswith("the ")))
    return next((fix for fix in found if fix.field not in tried), None)


def _sampling_fix(field: str, words: str, longest: int | None) -> _Fix:
    if field == "max_tokens" and "max_completion_tokens" in words:

        def instead(request: dict[str, Any]) -> None:
            request.pop("max_tokens", None)
            request["max_completion_tokens"] = longest

        return _Fix(field, f"sampling.max_completion_tokens: {longest}", instead)
    return _Fix(field, f"sampling.{field}: null", _drop(field))


def _names(said: Refusal, words: str, field: str) -> bool:
    return (
        field in said.about or re.search(rf"(?<![\w]){re.escape(field)}(?![\w])", words) is not None
    )


def _drop(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda request: request.pop(field, None)


def _drop_extra(field: str) -> Callable[[dict[str, Any]], None]:
    def drop(request: dict[str, Any]) -> None:
        request["extra_body"] = {k: v for k, v in request["extra_body"].items() if k != field}

    return drop


def _without_strict(request: dict[str, Any]) -> None:
    request.get("response_format", {}).get("json_schema", {}).pop("strict", None)


def _options(fixes: list[_Fix]) -> str:
    return ", ".join(f"`{fix.option}`" for fix in fixes)


def _lists(served: list[str], model: str) -> bool:
    """Whether a model is listed; some servers list `models/NAME`."""
    return any(name == model or name == f"models/{model}" or f"models/{name}" == model
               for name in served)  # fmt: skip


def _reason(message: str, url: str) -> str:
    return message.removeprefix(f"{url}/models").removeprefix(url).lstrip(": ")


def _counts(answer: Completion) -> str:
    tokens = [answer.input_tokens, answer.output_tokens]
    return "" if None in tokens else f"{tokens[0]:,} and {tokens[1]:,} tokens"


def _doubts(call: Call, answer: Completion) -> str:
    """What is wrong with the reply itself. A run can work in spite of it."""
    if answer.finish_reason != "stop":
        return f"; that reply ended by {answer.finish_reason}"
    try:
        read_reply(call.step, answer.text, guided=False, context=call.fields)
    except ValidationError:
        return "; that reply is invalid for the step; a run would ask again"
    return ""
