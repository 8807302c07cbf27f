"""The error classes: one per boundary.

Each states who is to blame (`blame`), and whether the one owner of retries
(`workers.core.retry`) may try again (`transient`). The scheduler retries an episode only when
infrastructure is to blame; every other failure would repeat, so it is an outcome, stored as data.

1. A call fails: `EngineDead`, `EngineOverloaded`, `Timeout` are transient; the call is retried,
   at once after `ReplicaLost`, since another replica may be free.
2. A call is refused, and would be again: `EngineRefused`, `CallQuarantined`; where the server
   serves no call of this model at all, `ModelUnavailable`, and the run stops.
3. A prompt does not fit or does not render, a reply stays invalid: the speaker is to blame.
4. Code of a plug-in raises, or gives what cannot be stored: `AgentError`, `UserError`,
   `CriticError`. Code of crsweep raises: `InternalError`, the attempt's and not the run's.
5. Data or storage is broken: `DataError`, `StoreError` end the run with one message.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import ClassVar, Literal

from agents.core.text import repaired

Blame = Literal["agent", "user", "critic", "infrastructure"]


class CrsweepError(Exception):
    """The base class of everything that crsweep raises on purpose."""

    transient: ClassVar[bool] = False
    blame: Blame | None = None
    retries: int = 0
    """How often the failed call was retried; set only by `workers.core.retry`."""

    def __init__(self, message: str, *, blame: Blame | None = None) -> None:
        # Reduced to one line, as it is shown and stored.
        super().__init__(repaired(" ".join(message.split())))
        if blame is not None:
            self.blame = blame

    @property
    def message(self) -> str:
        return str(self.args[0])


class UsageError(CrsweepError):
    """Invalid input by the user: shown as one line, exit code 2."""


class EngineDead(CrsweepError):
    """The model server is unreachable, or answers with a server error."""

    transient = True
    blame = "infrastructure"


class ReplicaLost(EngineDead):
    """The replica with the call is lost; another may take it at once."""


class EngineOverloaded(CrsweepError):
    """The model server currently refuses work."""

    transient = True
    blame = "infrastructure"
    retry_after: float | None = None
    """Seconds until the server asks to be called again, if it says so."""

    def __init__(
        self, message: str, *, blame: Blame | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, blame=blame)
        self.retry_after = retry_after


class Timeout(CrsweepError):
    """No answer within the deadline."""

    transient = True
    blame = "infrastructure"


class EngineRefused(CrsweepError):
    """The server refuses this request, and would refuse it again (key, model name)."""

    blame = "infrastructure"


class CallQuarantined(EngineRefused):
    """The call was alone in an engine that died, after two earlier deaths with it."""


class ModelUnavailable(EngineRefused):
    """No call of this model can be served: a wrong key, an empty account, an unknown model.

    Every other call would fail the same way, so the run stops with the reason.
    """


class InternalError(CrsweepError):
    """A bug in crsweep itself. It is recorded, so that it costs one attempt and not the run."""

    blame = "infrastructure"


REFUSALS = frozenset(
    kind.__name__ for kind in (EngineRefused, CallQuarantined, ModelUnavailable, InternalError)
)
"""Names of infrastructure errors that would repeat, so that the episode is not retried."""


class ContextOverflow(CrsweepError):
    """Prompt and reply do not fit the model's context. The speaker is to blame."""


class ReplyInvalid(CrsweepError):
    """A reply was still invalid after asking again. The speaker is to blame."""


class PromptError(CrsweepError):
    """A prompt template is missing, broken, or uses a field that it was not given."""


class AgentError(CrsweepError):
    """The agent's own code raised."""

    blame = "agent"


class UserError(CrsweepError):
    """The simulated user's own code raised."""

    blame = "user"


class CriticError(CrsweepError):
    """Code that judges a running dialogue raised an error: a success rule or a critic."""

    blame = "critic"


class DataError(CrsweepError):
    """A data set is missing, truncated or malformed."""


class StoreError(CrsweepError):
    """The output folder cannot be read or written, or another driver holds it."""

    blame = "infrastructure"


class blaming:
    """Turns an error of a plug-in's own code into one that blames the plug-in.

    Infrastructure errors stay infrastructure errors, even if the plug-in met them in a task group
    or raised its own error from them. Requests to stop also pass through: Ctrl-C, the cancellation
    of this task, the closing of a coroutine or generator.
    """

    __slots__ = ("_kind", "_task")

    def __init__(self, kind: type[CrsweepError]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        self._task = _current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Anything else: a plug-in may call sys.exit() or await a cancelled future.
        if error is None or isinstance(error, CrsweepError | KeyboardInterrupt):
            return
        if _asks_to_stop(error, self._task):
            return
        for origin in _origins(error):
            if isinstance(origin, CrsweepError) and origin.blame == "infrastructure":
                raise origin from error
        raise self._kind(described(error) + _place(error)) from error


_OURS = ("agents.core.", "simulators.core.", "simulators.domains.core.", "sweeps.", "workers.",
         "runner.")  # fmt: skip


def _place(error: BaseException) -> str:
    """Where in the plug-in's own code an error arose: ` (my_lab/genre_first.py:19, in respond)`.

    That is the innermost frame outside of crsweep's core, of Python's library and of installed
    packages; for an installed plug-in, that of the package whose code was entered first. Empty if
    the error is about what the plug-in returned. The path begins at the folder from which the
    plug-in was imported, so that it is the same on every machine.
    """
    frames = [
        (str(frame.f_globals.get("__name__", "")), frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    frames = [each for each in frames if not f"{each[0]}.".startswith(_OURS)]
    if not frames:
        return ""
    own = [
        each
        for each in frames
        if each[0].partition(".")[0] not in sys.stdlib_module_names
        and "site-packages" not in each[1].co_filename
    ]
    package = frames[0][0].partition(".")[0]
    own = own or [each for each in frames if each[0].partition(".")[0] == package]
    module, code, line = own[-1]
    file = PurePath(code.co_filename)
    depth = module.count(".") + 1 + (file.name == "__init__.py")
    return f" ({'/'.join(file.parts[-depth:])}:{line}, in {code.co_name})"


def described(error: BaseException) -> str:
    """The class and message of an error, even if its own `__str__` raises."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as failed:  # noqa: BLE001  (it is a plug-in's code too)
        return f"{name} (its message cannot be read: {type(failed).__name__})"


def _asks_to_stop(error: BaseException, task: asyncio.Task[object] | None) -> bool:
    """Whether `error` comes from outside a plug-in that was entered in `task`."""
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    # A coroutine is closed from outside its own task, and after it.
    return isinstance(error, GeneratorExit) and (task is None or _current_task() is not task)


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return None


def _origins(error: BaseException) -> Iterator[BaseException]:
    """The errors that `error` was raised from, and those in its group."""
    seen, waiting = set[int](), [error]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
        waiting += [e for e in (found.__cause__, found.__context__) if e is not None]


def near(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` if a known word is close to `word`, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
