"""`Ask`: the only way from an agent or a simulated user to a model.

- It renders the step's prompt, derives the seed, calls the role's model, validates the reply
  against the step's schema, and logs every call.
- An invalid or truncated reply is asked for again at most `MAX_REASKS` times, with a new seed and
  the reason. Then `ReplyInvalid` is raised; no default ever replaces a reply silently.
- Draws are numbered when `ask` is called, not when it runs, so concurrent draws have the same seeds
  in every replay.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from agents.core.calls import (
    EMBED,
    Call,
    ChatMessage,
    Completion,
    EmbedCall,
    Embedded,
    Model,
    Shown,
)
from agents.core.errors import AgentError, Blame, CrsweepError, ReplyInvalid, described
from agents.core.policy import DECIDE, Decision, DecisionCall, Decoding, LabelPolicy
from agents.core.prompts import PromptFolder
from agents.core.reading import read_reply
from agents.core.seeds import call_seed
from agents.core.steps import ReplyModel, Step
from agents.core.text import repaired, repaired_json

MAX_REASKS = 2
_PROBE = ".probe"
_MAX_SHOWN_REASON = 300  # characters of a validation error that a model is shown

R = TypeVar("R", bound=ReplyModel)
T = TypeVar("T")
A = TypeVar("A", Completion, Embedded)


@dataclass(slots=True)
class CallRecord:
    """One row of `calls`.

    `completion` is None for a call that failed for good; after an `EmbedCall` it has no text.
    """

    call: Call
    model: Model
    completion: Completion | None
    valid: bool
    error: CrsweepError | None
    started: float
    seconds: float


@dataclass(slots=True)
class CallLog:
    """The calls of one attempt, and the turns that they belong to."""

    turn: int = 0
    records: list[CallRecord] = field(default_factory=list)
    ordinals: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    """Input and output tokens, by role."""
    watch: Callable[[CallRecord], None] | None = None
    """Called with each record once it is final."""

    def complete(self, record: CallRecord, completion: Completion) -> None:
        """Records the answer to a call."""
        record.completion = completion
        tokens = (completion.input_tokens or 0) + (completion.output_tokens or 0)
        self.used[record.call.role] += tokens

    def settle(self, record: CallRecord, *, valid: bool) -> None:
        """Records whether a call's answer can be used, which makes the record final."""
        record.valid = valid
        if self.watch is not None:
            self.watch(record)

    def tokens(self, counts: Callable[[str], bool]) -> int:
        """Input and output tokens of the roles for which `counts` returns true."""
        return sum(tokens for role, tokens in self.used.items() if counts(role))


def is_probe(role: str) -> bool:
    """Whether calls of `role` are probes, which do not affect the dialogue or its token totals."""
    return role.endswith(_PROBE)


def blame_of(role: str) -> Blame:
    """Who is to blame for errors in the replies of `role`."""
    head = role.split(".", 1)[0]
    return head if head in ("agent", "user", "critic") else "infrastructure"  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Ask:
    """Makes the calls of one role in one episode.

    `models` finds the model of a role. `sampling` is the episode's sampling seed, `scope` its case.
    """

    role: str
    scope: str
    sampling: int
    prompts: PromptFolder
    models: Callable[[str], Model]
    journal: CallLog
    temperature: float | None = None
    """Overrides the model's own temperature."""

    @overload
    def __call__(
        self, step: Step[R], *, draw: int | None = None, **fields: Any
    ) -> Awaitable[R]: ...
    @overload
    def __call__(self, step: Step[R], *, n: int, **fields: Any) -> Awaitable[list[R]]: ...

    def __call__(
        self, step: Step[R], *, n: int | None = None, draw: int | None = None, **fields: Any
    ) -> Awaitable[R] | Awaitable[list[R]]:
        """The model's valid reply to `step`, or `n` of them drawn independently.

        `draw` numbers the reply explicitly; without it, replies to one step are numbered within a
        turn in the order of the calls. Raises ReplyInvalid, PromptError and the engine errors, each
        with its blame.
        """
        if n is not None:
            return self._several(step, [self._ordinal(step.name) for _ in range(n)], fields)
        return self._one(step, self._ordinal(step.name) if draw is None else draw, fields)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of one or more texts by the role's model: float32, one row per text.

        Raises the engine errors; EngineRefused if the role's model provides no embeddings.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError("embed takes a sequence of texts, at least one")
        model, turn = self.models(self.role), self.journal.turn
        draw = self._ordinal(EMBED.name)
        texts = [repaired(text) for text in texts]
        call = EmbedCall.of(self.role, self.scope, turn, draw, texts)
        record, done = await self._journalled(call, model, model.embed(texts))
        completion = Completion(
            "",
            "stop",
            done.input_tokens,
            0,  # not None, which means that tokens were not counted
            cached=done.cached,
            retries=done.retries,
            fingerprint=done.fingerprint,
        )
        self.journal.complete(record, completion)
        self.journal.settle(record, valid=True)
        return done.vectors

    async def decide(self, policy: LabelPolicy, state: str, decoding: Decoding) -> Decision:
        """The policy's decision in `state`, drawn by the call's seed.

        Raises AgentError if the policy gives no decision, because it is a part of the agent.
        """
        turn, draw, state = self.journal.turn, self._ordinal(DECIDE.name), repaired(state)
        seed = call_seed(self.sampling, self.scope, self.role, DECIDE.name, turn, draw, 0)
        call = DecisionCall.of(self.role, self.scope, turn, draw, seed, self.sampling, state)
        model = policy.model(decoding)
        record, done = await self._journalled(call, model, model.complete(call))
        self.journal.complete(record, done)
        try:
            found = Decision.read(done.text)
        except (ValueError, TypeError) as error:
            self.journal.settle(record, valid=False)
            raise AgentError(f"{self.role}: a decision of the policy: {described(error)}") from None
        self.journal.settle(record, valid=True)
        return found

    def as_role(self, part: str) -> Ask:
        """The same for the sub-role `part` (`agent` -> `agent.planner`).

        A sub-role of a probe is a probe too (`agent.probe` -> `agent.planner.probe`).
        """
        if is_probe(self.role):
            return self._speaking_as(f"{self.role.removesuffix(_PROBE)}.{part}{_PROBE}")
        return self._speaking_as(f"{self.role}.{part}")

    def probing(self) -> Ask:
        """The same as a probe, outside of the dialogue."""
        return self if is_probe(self.role) else self._speaking_as(self.role + _PROBE)

    def at(self, temperature: float | None) -> Ask:
        """The same at this temperature; None: the model's own."""
        return replace(self, temperature=temperature)

    def _speaking_as(self, role: str) -> Ask:
        return replace(self, role=role)

    def _ordinal(self, step: str) -> int:
        key = (self.role, step, self.journal.turn)
        self.journal.ordinals[key] += 1
        return self.journal.ordinals[key] - 1

    async def _several(self, step: Step[R], draws: list[int], fields: Mapping[str, Any]) -> list[R]:
        return await together(self._one(step, draw, fields) for draw in draws)

    async def _one(self, step: Step[R], draw: int, fields: Mapping[str, Any]) -> R:
        model = self.models(self.role)
        turn = self.journal.turn
        prompt, shown = self._render(step, fields, model.wants_shown)
        messages: tuple[ChatMessage, ...] = (ChatMessage("user", prompt),)
        reason = ""
        for reask in range(MAX_REASKS + 1):
            seed = call_seed(self.sampling, self.scope, self.role, step.name, turn, draw, reask)
            call = Call(
                step,
                self.role,
                self.scope,
                turn,
                draw,
                reask,
                seed,
                messages,
                fields,
                shown,
                self.sampling,
                self.temperature,
            )
            record, completion = await self._journalled(call, model, model.complete(call))
            self.journal.complete(record, completion)
            reply, reason = _parse(step, completion, model.guided, fields)
            self.journal.settle(record, valid=reply is not None)
            if reply is not None:
                return reply
            messages = _asked_again(messages, completion.text, reason)
        raise ReplyInvalid(
            f"{self.role}, step {step.name}: no valid reply in {MAX_REASKS + 1} tries; "
            f"the last: {reason}",
            blame=blame_of(self.role),
        )

    def _render(
        self, step: Step[Any], fields: Mapping[str, Any], track: bool
    ) -> tuple[str, Shown | None]:
        given = {**fields, "reply_form": step.form}
        try:
            if track:
                prompt, shown = self.prompts.render_shown(step.name, given)
            else:
                prompt, shown = self.prompts.render(step.name, given), None
        except CrsweepError as error:
            error.blame = error.blame or blame_of(self.role)
            raise
        return repaired(f"{prompt}\n\n{step.closing}"), shown

    async def _journalled(
        self, call: Call, model: Model, answer: Awaitable[A]
    ) -> tuple[CallRecord, A]:
        """The answer, and the record of the call, which does not have the answer yet."""
        record = CallRecord(call, model, None, False, None, time.time(), 0.0)
        clock = time.perf_counter()
        try:
            answered = await answer
        except CrsweepError as error:
            error.blame = error.blame or blame_of(self.role)
            record.error = error
            self._end(record, clock)
            self.journal.settle(record, valid=False)
            raise
        self._end(record, clock, answered.waited)
        return record, answered

    def _end(self, record: CallRecord, clock: float, waited: float = 0.0) -> None:
        record.seconds = max(0.0, time.perf_counter() - clock - waited)
        self.journal.records.append(record)


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of `calls`, in order. If one fails, the others are cancelled, so no call outlives
    it."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _asked_again(
    messages: tuple[ChatMessage, ...], reply: str, reason: str
) -> tuple[ChatMessage, ...]:
    """The messages after a reply that cannot be used.

    The speaker sees its own reply and what was wrong with it, but not its thinking, which reasoning
    models are not shown again. Servers refuse empty messages, so after an empty reply the complaint
    is added to the message before it, and roles still alternate.
    """
    if reply.strip():
        complaint = f"That reply cannot be used: {reason}\nAnswer again."
        return (*messages, ChatMessage("assistant", reply), ChatMessage("user", complaint))
    *before, last = messages
    complaint = f"Your last reply cannot be used: {reason}\nAnswer again."
    return (*before, ChatMessage(last.role, f"{last.content}\n\n{complaint}"))


def _parse(
    step: Step[R], completion: Completion, guided: bool, fields: Mapping[str, Any]
) -> tuple[R | None, str]:
    """The valid reply, or None and the reason. A truncated reply is never parsed."""
    if completion.finish_reason == "content_filter":
        return None, "a content filter withheld it"
    if completion.finish_reason != "stop":
        return None, f"it was cut off ({completion.finish_reason})"
    text = completion.text if step.mode == "text" else repaired_json(completion.text)
    try:
        return read_reply(step, text, guided=guided, context=fields), ""
    except ValidationError as error:
        if not completion.text.strip():
            return None, "it was empty"
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "reply"
        return None, f"{where}: {first['msg']}"[:_MAX_SHOWN_REASON]
