"""What is left to judge in a folder: the second stage of a sweep.

It covers the finished dialogues that count. They are read twice, in batches: once to count what is
left, once to run it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.console import Console

from agents.core.errors import UsageError, near
from agents.core.plural import many
from analysis.results import Results
from analysis.transcripts import BATCH, Transcripts
from runner.driver.artifacts import Preparation
from runner.driver.progress import Tally
from runner.driver.work import find_settled, remaining
from simulators.core.judge import JUDGES, DialogueJudge, RecordedDialogue
from sweeps import identity
from sweeps.cells import Cell
from sweeps.judgements import (
    JUDGEMENT,
    JudgementSpec,
    Prefix,
    StoredDialogue,
    judgement_task,
)
from sweeps.judges import PairChoice, PlannedJudge, opponents
from sweeps.plan import Plan
from sweeps.tasks import Task
from workers.resources import speaker_of
from workers.results.bundles import committed


class Selection(NamedTuple):
    """Which part of a folder to judge; everything by default."""

    only: Sequence[str] = ()
    """Titles of judges."""
    where: str | None = None
    """An SQL condition on the columns of `episodes`."""
    limit: int | None = None
    """The maximum number of dialogues."""

    @property
    def whole(self) -> bool:
        return not self.only and self.where is None and self.limit is None


@dataclass(frozen=True)
class JudgingTasks:
    """The dialogues of a folder that judges read, and the resulting tasks."""

    plan: Plan
    transcripts: Transcripts
    judges: Mapping[int, PlannedJudge]
    """The selected judges, by their position in the plan."""

    @classmethod
    def find(cls, plan: Plan, selection: Selection) -> JudgingTasks:
        """Finds the dialogues. Raises UsageError for a judge that is not in the plan, or an invalid
        condition."""
        titles = [judge.title for judge in plan.judges]
        for title in selection.only:
            if title not in titles:
                known = ", ".join(titles) or "none"
                raise UsageError(
                    f"the sweep has no judge {title!r}{near(title, titles)} (known: {known})"
                )
        judges = {
            index: judge
            for index, judge in enumerate(plan.judges)
            if not selection.only or judge.title in selection.only
        }
        transcripts = Transcripts(Results.open(plan.loaded.out), selection.where, selection.limit)
        return cls(plan, transcripts, judges)

    def tasks(self) -> Iterator[Task]:
        """Every task, settled or not, in running order."""
        single = {
            index: _instance(judge) for index, judge in self.judges.items() if not judge.pairs
        }
        for batch in self.transcripts.batches() if single else ():
            for stored in batch:
                read = self._recorded(stored)
                for index, judge in single.items():
                    if judge.subjects(read):
                        spec = JudgementSpec(index, 0, stored)
                        yield from self._of(index, spec, [read], stored.cell)
        for index, judge in self.judges.items():
            if judge.pairs is not None:
                yield from self._pairs(index, judge.pairs)

    def _of(
        self, index: int, spec: JudgementSpec, read: Sequence[RecordedDialogue], cell: int
    ) -> Iterator[Task]:
        """The tasks of one judge and subject, one per sample. `cell` has the roles involved."""
        judge = self.judges[index]
        hashes = [dialogue.transcript_hash for dialogue in read]
        for sample in range(judge.ref.samples):
            yield judgement_task(judge.digest, spec._replace(sample=sample), hashes, cell)

    def _pairs(self, index: int, choice: PairChoice) -> Iterator[Task]:
        against = opponents(choice, [cell.axes for cell in self.plan.cells])
        found = [
            (position, partner)
            for (cell, case, seeds), position in self.transcripts.places.items()
            for other in against.get(cell, ())
            if (partner := self.transcripts.partner(other, case, seeds)) is not None
        ]
        for start in range(0, len(found), BATCH // 2):
            pairs = found[start : start + BATCH // 2]
            read = self.transcripts.read([position for pair in pairs for position in pair])
            for first, second in pairs:
                yield from self._pair(index, choice, read[first], read[second])

    def _pair(
        self, index: int, choice: PairChoice, first: StoredDialogue, second: StoredDialogue
    ) -> Iterator[Task]:
        spec = JudgementSpec(index, 0, first, second)
        if choice.of == "dialogue":
            yield from self._of(index, spec, [*map(self._recorded, (first, second))], first.cell)
            return
        # The dialogue that is continued alternates with the seeds; the case determines the first
        # side.
        case, seed = first.case_id, first.seeds.sampling
        a_owns = (identity.number(case) + seed) % 2 == 0
        owner, responder = (first, second) if a_owns else (second, first)
        if owner.turns:
            turn = 1 + identity.number(f"{case}\0{seed}") % len(owner.turns)
            spec = spec._replace(prefix=Prefix("a" if a_owns else "b", turn))
            yield from self._of(index, spec, [self._recorded(owner)], responder.cell)

    def needs(self, task: Task) -> Collection[str]:
        """The keys of the artifacts that the agent replying in a pair needs."""
        spec: JudgementSpec = task.spec
        if spec.prefix is None:
            return ()
        return self.plan.cells[task.cell].artifacts(spec.first.seeds).values()

    def _recorded(self, dialogue: StoredDialogue) -> RecordedDialogue:
        source = self.plan.sources[self.plan.cells[dialogue.cell].source]
        return dialogue.recorded(source.domain.catalogue)


def _instance(judge: PlannedJudge) -> DialogueJudge:
    speaker = speaker_of(judge.ref, JUDGES, "judge")
    return speaker.cls(speaker.options)


@dataclass(frozen=True)
class JudgingWork:
    """`crsweep judge`, and the second stage of `crsweep run`."""

    plan: Plan
    subjects: JudgingTasks
    settled: Set[str]
    planned: int
    left: int
    cells: frozenset[int]
    preparation: Preparation
    completes: bool
    noun = "judgement"

    @classmethod
    def find(
        cls,
        plan: Plan,
        *,
        selection: Selection,
        retry: Sequence[str],
        accept_artifacts: bool,
        console: Console,
    ) -> JudgingWork:
        """`retry` names error classes and blames whose failed judgements are made again.

        Raises PartDamaged for a part that must be set aside.
        """
        settled = find_settled(plan.loaded.out, retry, JUDGEMENT)
        subjects = JudgingTasks.find(plan, selection)
        planned = left = 0
        cells: set[int] = set()
        needed: dict[str, None] = {}
        for task in subjects.tasks():
            planned += 1
            if task.id not in settled:
                left += 1
                cells.add(task.cell)
                needed |= dict.fromkeys(subjects.needs(task))
        preparation = Preparation(plan, list(needed), console, accept=accept_artifacts)
        completes = selection.whole and remaining(plan, find_settled(plan.loaded.out)).episodes == 0
        return cls(plan, subjects, settled, planned, left, frozenset(cells), preparation, completes)

    @property
    def artifacts(self) -> Sequence[str]:
        return self.preparation.keys

    @property
    def totals(self) -> Mapping[str, int]:
        return {JUDGEMENT: self.left}

    @property
    def speaking(self) -> Plan:
        return judging_plan(self.plan, list(self.subjects.judges.values()))

    def tasks(self, cells: Collection[int]) -> Iterator[Task]:
        return (
            task
            for task in self.subjects.tasks()
            if task.cell in cells and task.id not in self.settled
        )

    def needs(self, task: Task) -> Collection[str]:
        return self.subjects.needs(task)

    def left_after(self, tally: Tally, *, whole: bool) -> int:
        if whole:
            return tally.left
        settled = committed(self.plan.loaded.out, JUDGEMENT)
        return sum(task.id not in settled for task in self.subjects.tasks())

    def summary(self) -> str:
        done = self.planned - self.left
        some = f", {done:,} done" if done else ""
        judges = ", ".join(judge.title for judge in self.subjects.judges.values())
        return (
            f"{many(len(self.subjects.transcripts), 'dialogue')}, "
            f"{many(self.planned, self.noun)} by {judges}{some}, {self.left:,} to run"
        )

    def nothing_left(self) -> str:
        return f"nothing to judge: all {self.planned:,} judgements are settled"


def judging_plan(plan: Plan, judges: Sequence[PlannedJudge]) -> Plan:
    """The plan, reduced to the roles that are needed while `judges` judge."""
    roles = {role for judge in judges for role in judge.roles}
    replies = any(judge.pairs and judge.pairs.of == "response" for judge in judges)

    def speaking(cell: Cell) -> dict[str, str]:
        agents = {role: m for role, m in cell.roles.items() if role.split(".", 1)[0] == "agent"}
        judging = {role: model for role, model in cell.judges.items() if role in roles}
        return {**(agents if replies else {}), **judging}

    return replace(plan, cells=[replace(cell, roles=speaking(cell)) for cell in plan.cells])
