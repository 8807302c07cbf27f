"""A kind of task that exists in tests alone: surveys among the simulated users.

A survey asks the model of the role `user` some questions, and commits one row an answer to a table
of its own. All that crsweep knows of it are the three entries that `register` makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow as pa
import pytest

from agents.core.ask import Ask, CallLog
from agents.core.errors import CrsweepError, UserError
from agents.core.prompts import PromptFolder
from agents.core.steps import ReplyModel, Step, text
from runner.driver import kinds as driver_kinds
from sweeps import identity
from sweeps.plan import Plan
from sweeps.storage import records
from sweeps.storage.records import WRITTEN_BY, Commit, RequiredRows
from sweeps.tasks import Task
from workers.core.attempts import Check, OnProgress, StoredAttempt, Tables, error_of
from workers.kinds import handlers
from workers.resources import Resources
from workers.results.bundles import Unstorable
from workers.results.rows import rows_of_calls

SURVEY = "survey"
QUESTIONS = ("Do you like being asked?", "Do you like being shown films?")


class _Opinion(ReplyModel):
    words: Annotated[str, text(80)]


STEP = Step("survey", "verbalise", _Opinion, mode="text")

ANSWERS = pa.schema(
    [
        pa.field("survey_id", pa.string(), nullable=False),
        pa.field("asking_id", pa.string(), nullable=False),  # the attempt
        pa.field("question", pa.string()),  # null in the one row of a survey that failed
        pa.field("answer", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("blame", pa.string()),
        pa.field("error_class", pa.string()),
        pa.field("asked", pa.int32(), nullable=False),  # calls
        *WRITTEN_BY,
    ]
)
COMMIT = Commit(
    "answers",
    "survey_id",
    (RequiredRows("calls", ("asked",), lambda row: row["asked"]),),
    "asking_id",
)


class SurveySpec(NamedTuple):
    """Who is asked, under which sampling seed."""

    case_id: str
    seed: int


@dataclass(frozen=True, slots=True)
class SurveyAttempt(StoredAttempt):
    """One attempt at a survey."""

    attempt_id: str
    log: CallLog
    answers: dict[str, str] = field(default_factory=dict)

    def rows(self) -> Tables:
        outcome = self.outcome
        answers = self.answers.items() if self.error is None else [(None, None)]
        return {
            "calls": rows_of_calls(self.attempt_id, self.log),
            "answers": [
                {
                    "survey_id": self.task.id,
                    "asking_id": self.attempt_id,
                    "question": question,
                    "answer": answer,
                    "status": "valid" if self.error is None else "failed",
                    "blame": outcome.blame,
                    "error_class": outcome.error_class,
                    "asked": len(self.log.records),
                }
                for question, answer in answers
            ],
        }

    def storable(self, check: Check) -> SurveyAttempt:
        try:
            for table, rows in self.rows().items():
                check(table, rows)
        except Unstorable as cause:
            return replace(
                self, error=UserError(f"an answer cannot be stored: {cause}"), log=CallLog()
            )
        return self


class SurveyHandler:
    """Runs surveys in one process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._prompts = PromptFolder(Path(__file__).parent / "prompts")

    async def run(self, task: Task, log: CallLog, on_progress: OnProgress) -> SurveyAttempt:
        answers: dict[str, str] = {}

        models = self._resources.models_of(task.cell)

        async def asked() -> None:
            ask = Ask("user", task.spec.case_id, task.spec.seed, self._prompts, models, log)
            for number, question in enumerate(QUESTIONS):
                log.turn = number
                on_progress(number, len(QUESTIONS))
                answers[question] = (await ask(STEP, question=question)).words

        error: CrsweepError | None = await error_of(task, log, asked())
        epoch = self._resources.job.epoch
        return SurveyAttempt(task, error, task.attempt_id(epoch), log, answers)


def survey_tasks(plan: Plan, done: Set[str] = frozenset()) -> Iterator[Task]:
    """A survey for every case and seed of the first cell that is not in `done`."""
    cell = plan.cells[0]
    source = plan.sources[cell.source]
    for position in range(len(source)):
        for seeds in cell.seeds:
            spec = SurveySpec(source.case_id(position), seeds.sampling)
            survey_id = identity.digest([SURVEY, *spec])
            if survey_id not in done:
                yield Task(SURVEY, survey_id, 0, spec)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the kind known: how it is stored, run and received."""
    monkeypatch.setitem(records.SCHEMAS, "answers", ANSWERS)
    monkeypatch.setitem(records.COMMITS, SURVEY, COMMIT)
    monkeypatch.setitem(handlers.HANDLERS, SURVEY, SurveyHandler)
    monkeypatch.setitem(driver_kinds.RECEIVERS, SURVEY, lambda run: run.counters)
