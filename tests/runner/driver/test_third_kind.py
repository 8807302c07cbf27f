"""A kind of task that crsweep has never seen (`tests.survey`) runs as episodes do, next to them."""

import io
import itertools
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console

from agents.core.errors import EngineDead, Timeout
from runner.driver import execution, progress
from runner.driver.closing import close, nothing_to_run
from runner.driver.execution import execute
from runner.driver.opening import open_session
from runner.driver.work import EpisodeWork
from sweeps.storage.folder import LocalFolder
from sweeps.storage.records import EPISODE
from tests import survey
from tests.runner.reading import raw
from tests.survey import SURVEY, survey_tasks
from tests.sweep_files import plan_of, write_sweep
from workers.backends.rules.backend import RulesBackend
from workers.executors.local import LocalWorker
from workers.results import bundles

GRID = {"agent": ["zero_shot"], "roles.agent": ["strong"], "seed": [0, 1]}
CASES = 6
SURVEYS = 2 * CASES
ANSWER = RulesBackend.complete


class SurveyWork(EpisodeWork):
    """The episodes of a sweep and, after them, its surveys."""

    @property
    def surveys_done(self):
        return bundles.committed(self.plan.loaded.out, SURVEY)

    @property
    def totals(self):
        return {
            **super().totals,
            SURVEY: sum(1 for _ in survey_tasks(self.plan, self.surveys_done)),
        }

    @property
    def left(self):
        return sum(self.totals.values())

    def needs(self, task):
        return super().needs(task) if task.kind == EPISODE else ()

    def tasks(self, cells):
        yield from super().tasks(cells)
        yield from survey_tasks(self.plan, self.surveys_done)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs a sweep with its surveys; every call goes through `sweep.answer`, if there is one."""
    survey.register(monkeypatch)
    found = SimpleNamespace(answer=None, calls=Counter(), out=tmp_path / "out")

    async def complete(self, call):
        if call.step is survey.STEP:
            found.calls[call.scope, call.seed] += 1
        return await (found.answer or ANSWER)(self, call)

    monkeypatch.setattr(RulesBackend, "complete", complete)

    def run(**changes):
        changes = {"grid": GRID, "cases": {"sample": CASES}, **changes}
        plan = plan_of(write_sweep(tmp_path, **changes))
        console = Console(file=io.StringIO(), width=200)

        def find(plan):
            work = EpisodeWork.find(plan, retry=(), accept_artifacts=False, console=console)
            return SurveyWork(work.plan, work.done, work.remaining, work.preparation)

        with open_session(plan, find, console) as session:
            result = nothing_to_run(session) or close(session, execute(session, ""))
        return SimpleNamespace(result=result, printed=console.file.getvalue(), plan=plan)

    found.run = run
    return found


def answers(sweep):
    return raw(sweep.out, "answers")


def settled(sweep):
    found = answers(sweep)
    return found[found.status == "valid"]


def test_it_runs_next_to_episodes_is_counted_by_itself_and_is_not_run_twice(sweep):
    ran = sweep.run()
    assert ran.result.left == 0
    assert f"{2 * CASES} episodes (0 failed), {SURVEYS} surveys (0 failed) in " in ran.printed
    tally = ran.result.tally
    assert {kind: one.settled for kind, one in tally.kinds.items()} == {
        EPISODE: 2 * CASES, SURVEY: SURVEYS,
    }  # fmt: skip
    found = settled(sweep)
    assert len(found) == 2 * SURVEYS
    assert found.survey_id.nunique() == found.asking_id.nunique() == SURVEYS
    asked = raw(sweep.out, "calls").query("step == 'survey'")
    assert Counter(asked.attempt_id) == Counter(found.asking_id)
    before = dict(sweep.calls)
    assert "nothing to do" in sweep.run().printed
    assert dict(sweep.calls) == before
    more = sweep.run(cases={"sample": CASES + 1})
    assert {kind: one.settled for kind, one in more.result.tally.kinds.items()} == {
        EPISODE: 2, SURVEY: 2,
    }  # fmt: skip


def test_lines_show_how_far_each_kind_is(sweep, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    lines = [line for line in sweep.run().printed.splitlines() if " calls/s" in line]
    assert f"episodes {2 * CASES}/{2 * CASES}, 0 failed, surveys {SURVEYS}/{SURVEYS}" in lines[-1]


def test_a_failure_of_infrastructure_is_tried_again_and_any_other_settles_it(sweep):
    failed = set()

    async def answer(self, call):
        if call.step is survey.STEP and call.scope not in failed:
            failed.add(call.scope)
            raise EngineDead("gone")
        return await ANSWER(self, call)

    sweep.answer = answer
    ran = sweep.run(retries={"transient": 0})
    tally = ran.result.tally.kinds
    assert (tally[SURVEY].tried_again, tally[SURVEY].failed) == (CASES, 0)
    assert tally[EPISODE].tried_again == 0
    assert Counter(answers(sweep).status) == {"valid": 2 * SURVEYS, "failed": CASES}
    assert set(answers(sweep).query("status == 'failed'").error_class) == {"EngineDead"}
    assert ran.result.left == 0


def test_what_infrastructure_fails_to_the_last_try_is_left_for_the_next_run(sweep):
    async def answer(self, call):
        if call.step is survey.STEP:
            raise Timeout("no answer")
        return await ANSWER(self, call)

    sweep.answer = answer
    first = sweep.run(retries={"transient": 0, "episode": 1}, max_failed=None)
    assert first.result.left == SURVEYS
    assert first.result.tally.kinds[SURVEY].open == SURVEYS
    sweep.answer = None
    second = sweep.run(retries={"transient": 0, "episode": 1})
    assert second.result.left == 0
    assert {kind: one.settled for kind, one in second.result.tally.kinds.items()} == {
        EPISODE: 0, SURVEY: SURVEYS,
    }  # fmt: skip


def test_too_many_failures_of_it_stop_the_run_and_name_it(sweep):
    async def answer(self, call):
        if call.step is survey.STEP:
            raise Timeout("no answer")
        return await ANSWER(self, call)

    sweep.answer = answer
    ran = sweep.run(retries={"transient": 0, "episode": 0}, max_failed=0.5)
    words = (
        r"1[0-2] of 1[0-2] started surveys failed with Timeout, blame infrastructure: more than "
    )
    assert re.match(words, ran.result.stopped)
    assert ran.result.tally.kinds[EPISODE].failed == 0


def test_its_calls_count_towards_the_caps(sweep):
    ran = sweep.run()
    everything = ran.result.tally.counts.tokens
    calls = raw(sweep.out, "calls")
    episodes = calls[calls.step != "survey"]
    assert everything == (calls.input_tokens + calls.output_tokens).sum()
    assert everything > (episodes.input_tokens + episodes.output_tokens).sum()
    capped = sweep.run(caps={"tokens": int(everything)}, cases={"sample": CASES + 1})
    assert "caps.tokens is reached" in capped.printed


class Killed(Exception):
    pass


def test_what_a_killed_worker_had_committed_is_not_run_again_and_the_rest_is(sweep, monkeypatch):
    started, dead = Counter(), []
    run = survey.SurveyHandler.run

    async def counted(self, task, log, on_progress):
        started[task.id] += 1
        return await run(self, task, log, on_progress)

    class Mortal(LocalWorker):
        """The first dies before a report of committed surveys reaches the driver."""

        async def report(self, wait, drain):
            found = await super().report(wait, drain)
            committed = {one.task.id for one in found.outcomes}
            if dead or not any(one.task.kind == SURVEY for one in found.outcomes):
                return found
            dead.append(committed)
            for task in self._pool._tasks:
                task.cancel()
            raise Killed("killed")

    class Executor(execution.LocalExecutor):
        lost = Killed

        def __init__(self, job, slots):
            super().__init__(job, slots)
            self._names, self._job, self._slots = itertools.count(), job, slots

        async def spawn(self):
            self._worker = Mortal(self._job, f"w{next(self._names):03d}", self._slots)
            return self._worker

    monkeypatch.setattr(survey.SurveyHandler, "run", counted)
    monkeypatch.setattr(execution, "LocalExecutor", Executor)
    monkeypatch.setattr("workers.executors.pool.FLUSH_ATTEMPTS", 5)
    ran = sweep.run()
    assert "worker w000 was lost; its unfinished episodes and surveys run again" in ran.printed
    [committed] = dead
    surveys = committed & started.keys()
    assert surveys
    assert all(started[task] == 1 for task in surveys)
    assert ran.result.left == 0
    assert ran.result.tally.kinds[SURVEY].settled == SURVEYS
    assert settled(sweep).survey_id.nunique() == SURVEYS


def test_its_parts_are_merged_and_read_as_before(sweep, monkeypatch):
    def rows():
        found = answers(sweep).sort_values(["asking_id", "question"], ignore_index=True)
        return found.astype(str).to_dict("records")

    with monkeypatch.context() as patch:
        patch.setattr("workers.executors.pool.FLUSH_ATTEMPTS", 2)
        patch.setattr("runner.driver.repair.compact", lambda folder, lease: 0)
        sweep.run()
    parts, before = LocalFolder(sweep.out).names("answers"), rows()
    assert len(parts) > 2
    assert "nothing to do" in sweep.run().printed
    [part] = LocalFolder(sweep.out).names("answers")
    assert part not in parts
    assert rows() == before
    assert len(bundles.committed(sweep.out, SURVEY)) == SURVEYS


def test_a_survey_whose_calls_are_lost_is_run_again_and_so_is_one_whose_part_is_damaged(sweep):
    sweep.run()
    before = settled(sweep).survey_id.nunique()
    for part in (sweep.out / "calls").glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-40])
    again = sweep.run()
    assert f"{SURVEYS} attempts lost calls; their surveys are run again" in again.printed
    assert (
        f"{2 * CASES} attempts lost turns or calls; their episodes are run again" in again.printed
    )
    assert settled(sweep).survey_id.nunique() == before
    for part in (sweep.out / "answers").glob("*.parquet"):
        part.write_bytes(b"")
    third = sweep.run()
    assert "is damaged" in third.printed
    assert "and what it committed is run again" in third.printed
    assert third.result.tally.kinds[SURVEY].settled == SURVEYS
    assert third.result.tally.kinds[EPISODE].settled == 0


def test_an_answer_that_cannot_be_stored_costs_its_own_survey(sweep, monkeypatch):
    ask = survey.SurveyHandler.run

    async def odd(self, task, log, on_progress):
        attempt = await ask(self, task, log, on_progress)
        if not any(sweep.odd):
            sweep.odd.append(task.id)
            attempt.answers[survey.QUESTIONS[0]] = 7  # type: ignore[assignment]
        return attempt

    sweep.odd = []
    monkeypatch.setattr(survey.SurveyHandler, "run", odd)
    ran = sweep.run()
    assert ran.result.left == 0
    failed = answers(sweep).query("status == 'failed'")
    assert list(failed.survey_id) == sweep.odd
    assert list(failed.blame) == ["user"]
    assert settled(sweep).survey_id.nunique() == SURVEYS - 1
