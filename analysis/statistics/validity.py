"""How far a simulated user can be trusted: what it does wrong, and how much of the outcome it is.

Counts read stored turns: what users recorded of themselves (`leak`, `disagrees`), and what follows
from words, items and targets. They say nothing of an agent. Where cells differ in who plays the
user, the variance between cells is split into what comes from the user, what from the agent, and
their interplay; and agents are ranked under each user.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.core.errors import UsageError
from analysis.metrics.core import Metric, groups_by
from analysis.results import Results
from analysis.statistics.scores import Scores, read_scores, values_of
from analysis.tables.labels import short_labels
from analysis.tables.sheets import UNDEFINED, Sheet, SheetCell
from analysis.tables.table import make_groups, metrics_of
from analysis.tables.table_notes import watermarks

_FEW_AGENTS = 3
"""Fewer agents have no rank correlation that says anything."""

_USER = re.compile(r"(simulator|roles\.user)(\..*)?")
_FILE = re.compile(r"([\w-]+)\.\w+\)?$")


class CountedShare(NamedTuple):
    """`hits` of `total`; NaN of none."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else float("nan")

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % of {self.total:,}" if self.total else UNDEFINED


class Behaviour(NamedTuple):
    """What the users of some cells did. Of finished dialogues of the plan."""

    label: str
    dialogues: int
    leaks: CountedShare
    """Dialogues in which the user named a target's title, of those that record it."""
    unshown: CountedShare
    """Acceptances in turns that showed no target."""
    refused: CountedShare
    """Turns that showed a target, and whose answer was no acceptance."""
    disagreed: CountedShare
    """Decisions against the rule, of those that were compared with it."""
    never_shown: CountedShare
    """Purchases of an item that was never shown, which were refused, of all that users named."""
    empty: CountedShare
    """Answers without a word."""
    repeated: CountedShare
    """Answers in the words of an earlier message of the same user."""
    helped: CountedShare
    """Answers with a fault that helped the agent, of those that `user_review` has judged."""
    hindered: CountedShare
    """Answers with a fault that hindered it."""
    words: list[float]
    """Mean words by turn, the opening first; NaN for a turn without a message."""


class VarianceSources(NamedTuple):
    """Shares of the variance between cells, by who plays the user and by the rest of the cell.

    The error of the cells' means is taken off, as in a two-way analysis of variance without
    replication; what is left over is their interplay. Shares are NaN where nothing varies.
    """

    metric: str
    user: float
    agent: float
    interplay: float
    spread: float
    """The standard deviation between the true means of the cells, in the metric's unit."""


class Ranking(NamedTuple):
    """How alike agents are ranked under two users: Spearman's rho over `agents`."""

    first: str
    second: str
    agents: int
    rho: float | None
    """None with fewer than three agents, or where one side does not tell them apart."""


def user_axes(results: Results) -> list[str]:
    """The axes of several values that say who plays the user."""
    return [axis for axis in results.varying_axes if _USER.fullmatch(axis)]


def groups(results: Results, axes: Sequence[str]) -> dict[str, list[int]]:
    """The cells by their values of `axes`, in short labels; all of them without an axis."""
    cells = results.manifest.cells
    for axis in axes:
        values_of(results, axis)  # UsageError for one that there is not
    short = {axis: short_labels(c.axes.get(axis, "") for c in cells).short for axis in axes}
    found: dict[str, list[int]] = {}
    for number, cell in enumerate(cells):
        label = ", ".join(short[axis][cell.axes.get(axis, "")] for axis in axes)
        found.setdefault(label or "all cells", []).append(number)
    return found


def behaviour_by(
    results: Results, by: Mapping[str, Sequence[int]], kinds: Iterable[str]
) -> list[Behaviour]:
    """What the users of each group of cells did, apart for the groups of users by `kinds`.

    Raises UsageError for an unknown kind, and where users are in no groups.
    """
    found = []
    wanted = groups_by(kinds)
    make_groups(results)
    for group in wanted:
        for one in behaviour(results, by, group):
            label = group if len(by) == 1 else f"{one.label}, {group}"
            found.append(one._replace(label=label))
    return found


def behaviour(
    results: Results, by: Mapping[str, Sequence[int]], group: str = ""
) -> list[Behaviour]:
    """What the users of each group of cells did; of one `group` of users, after `make_groups`."""
    members = (
        ""
        if not group
        else "AND EXISTS (SELECT 1 FROM drawn d JOIN plan_sources p USING (source) "
        "WHERE p.source_id = e.source_id AND d.position = e.position "
        f"AND d.\"group\" = '{group}')"
    )
    results.query(
        "CREATE OR REPLACE TEMP TABLE finished AS SELECT attempt_id, cell, targets "
        f"FROM episodes e WHERE status = 'done' {members}"
    )
    results.query(f"CREATE OR REPLACE TEMP TABLE said AS {_SAID}")
    dialogues = dict(results.query("SELECT cell, count(*) FROM finished GROUP BY cell").fetchall())
    counts = {row[0]: row[1:] for row in results.query(_COUNTS).fetchall()}
    leaks = {row[0]: row[1:] for row in results.query(_LEAKS).fetchall()}
    reviews = {row[0]: row[1:] for row in results.query(_REVIEWS).fetchall()}
    words = results.query(
        "SELECT cell, turn, sum(words), count(*) FROM said GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    texts = has_texts(results)
    found = []
    for label, cells in by.items():
        sums = np.zeros(12, int)
        for cell in cells:
            sums += np.array(counts.get(cell, (0,) * 12), int)
        leaked, reviewed = np.zeros(2, int), np.zeros(3, int)
        for cell in cells:
            leaked += np.array(leaks.get(cell, (0, 0)), int)
            reviewed += np.array(reviews.get(cell, (0, 0, 0)), int)
        if not texts:
            sums[8:] = 0
        pairs = [CountedShare(int(sums[n]), int(sums[n + 1])) for n in range(0, 12, 2)]
        found.append(
            Behaviour(
                label,
                sum(dialogues.get(cell, 0) for cell in cells),
                CountedShare(int(leaked[0]), int(leaked[1])),
                *pairs,
                *(CountedShare(int(hits), int(reviewed[2])) for hits in reviewed[:2]),
                words=_by_turn([row for row in words if texts and row[0] in cells]),
            )
        )
    return found


def has_texts(results: Results) -> bool:
    """Whether any message of a user has words; an anonymous copy has none."""
    return bool(results.query("SELECT 1 FROM turns WHERE user_text <> '' LIMIT 1").fetchall())


# A row for each message of a user, in finished dialogues. Items are compared with the targets.
_SAID = """
SELECT e.cell, t.attempt_id, t.turn, t.user_decision, t.shown,
    list_has_any(t.shown, e.targets) AS target_shown,
    t.user_extra ->> '$.leak' AS leak,
    t.user_extra ->> '$.disagrees' AS disagrees,
    t.user_extra ->> '$.refused_purchase' AS refused_purchase,
    t.user_extra ->> '$.bought_by' AS bought_by,
    regexp_replace(lower(trim(t.user_text)), '\\s+', ' ', 'g') AS text,
    len(regexp_extract_all(t.user_text, '\\S+')) AS words
FROM turns t
JOIN finished e USING (attempt_id)
"""

_COUNTS = """
SELECT cell,
    count(*) FILTER (WHERE user_decision = 'accept' AND NOT target_shown),
    count(*) FILTER (WHERE user_decision = 'accept'),
    count(*) FILTER (WHERE target_shown AND user_decision <> 'accept'),
    count(*) FILTER (WHERE target_shown AND user_decision IS NOT NULL),
    count(*) FILTER (WHERE disagrees = 'true'),
    count(*) FILTER (WHERE disagrees IS NOT NULL),
    count(refused_purchase),
    count(*) FILTER (WHERE refused_purchase IS NOT NULL OR bought_by IS NOT NULL),
    count(*) FILTER (WHERE turn > 0 AND text = ''),
    count(*) FILTER (WHERE turn > 0),
    count(*) FILTER (WHERE turn > 0 AND text <> '' AND again),
    count(*) FILTER (WHERE turn > 0 AND text <> '')
FROM (
    SELECT *, row_number() OVER (PARTITION BY attempt_id, hash(text) ORDER BY turn) > 1 AS again
    FROM said
)
GROUP BY cell
"""

_LEAKS = """
SELECT cell, count(*) FILTER (WHERE leaked), count(*)
FROM (
    SELECT cell, attempt_id, bool_or(leak = 'true') AS leaked FROM said
    WHERE leak IS NOT NULL GROUP BY ALL
)
GROUP BY cell
"""

_REVIEWS = """
SELECT e.cell, count(*) FILTER (WHERE value > 0), count(*) FILTER (WHERE value < 0), count(*)
FROM judgements j
JOIN finished e USING (attempt_id)
JOIN plan_judges p USING (judge_digest)
WHERE p.name = 'user_review' AND j.dimension = 'effect' AND j.status = 'valid'
GROUP BY e.cell
"""


def _by_turn(rows: Sequence[tuple[int, int, int, int]]) -> list[float]:
    """Mean words of each turn, from (cell, turn, words, messages)."""
    last = max((turn for _, turn, _, _ in rows), default=-1)
    sums = np.zeros((2, last + 1))
    for _, turn, words, count in rows:
        sums[:, turn] += words, count
    with np.errstate(invalid="ignore"):
        return list(map(float, sums[0] / sums[1]))


def variance_sources(results: Results, name: str) -> VarianceSources | None:
    """Where the variance of a metric between cells comes from.

    None unless cells differ both in who plays the user and in something else, and at least two of
    each have all their combinations.
    """
    (metric,) = metrics_of(results, [name])
    table = _crossed(results, read_scores(results, metric))
    return None if table is None else _sources(metric, *table)


def _sources(metric: Metric, means: np.ndarray, errors: np.ndarray) -> VarianceSources:
    """`means` of users x agents, and the variance of the error of each."""
    users, agents = means.shape
    noise = float(errors.mean())
    by_user, by_agent, mean = means.mean(axis=1), means.mean(axis=0), means.mean()
    rest = means - by_user[:, None] - by_agent[None, :] + mean
    both = float((rest**2).sum()) / ((users - 1) * (agents - 1))
    # Expected mean squares of a two-way table with one value per cell.
    interplay = max(0.0, both - noise)
    user = max(0.0, float(by_user.var(ddof=1)) - both / agents)
    agent = max(0.0, float(by_agent.var(ddof=1)) - both / users)
    total = user + agent + interplay
    shares = [part / total if total else float("nan") for part in (user, agent, interplay)]
    return VarianceSources(metric.name, *shares, spread=total**0.5)


def _crossed(results: Results, scores: Scores) -> tuple[np.ndarray, np.ndarray] | None:
    """Means by user and by all else, and the variances of their errors; complete rows only."""
    axes = user_axes(results)
    cells = results.manifest.cells
    if not axes:
        return None
    at: dict[tuple[object, ...], dict[tuple[object, ...], int]] = {}
    for number, cell in enumerate(cells):
        who = tuple(cell.axes.get(axis) for axis in axes)
        rest = (cell.source_id, *(cell.axes.get(a) for a in results.axes if a not in axes))
        at.setdefault(who, {})[rest] = number
    common = set.intersection(*(set(found) for found in at.values()))
    columns = [rest for rest in next(iter(at.values())) if rest in common]
    if len(at) < 2 or len(columns) < 2:
        return None
    means, errors = np.full((2, len(at), len(columns)), np.nan)
    for row, found in enumerate(at.values()):
        for column, rest in enumerate(columns):
            by_case = _by_case(scores.values[found[rest]])
            if len(by_case) > 1:
                means[row, column] = by_case.mean()
                errors[row, column] = by_case.var(ddof=1) / len(by_case)
    known = np.isfinite(means).all(axis=0)
    return (means[:, known], errors[:, known]) if known.sum() >= 2 else None


def _by_case(values: np.ndarray) -> np.ndarray:
    """The means of the cases that have a value, of values by case and seed."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(known, values, 0).sum(axis=1)[count > 0] / count[count > 0]


def agent_means(results: Results, name: str, axis: str, cells: Sequence[int]) -> dict[str, float]:
    """The mean of a metric for each value of `axis`, over `cells` alone."""
    (metric,) = metrics_of(results, [name])
    scores = read_scores(results, metric)
    short = short_labels(values_of(results, axis)).short
    found: dict[str, list[float]] = {}
    for number in cells:
        by_case = _by_case(scores.values[number])
        label = results.manifest.cells[number].axes.get(axis)
        if label is not None and len(by_case):
            found.setdefault(short[label], []).append(float(by_case.mean()))
    return {label: float(np.mean(means)) for label, means in found.items()}


def rankings(by_user: Mapping[str, Mapping[str, float]]) -> list[Ranking]:
    """Spearman's rho of the agents' means, for each two of the users."""
    return [
        _ranking(first, by_user[first], second, by_user[second])
        for first, second in itertools.combinations(by_user, 2)
    ]


def _ranking(
    first: str, ours: Mapping[str, float], second: str, theirs: Mapping[str, float]
) -> Ranking:
    common = [agent for agent in ours if agent in theirs]
    sides = [[side[agent] for agent in common] for side in (ours, theirs)]
    if len(common) < _FEW_AGENTS or any(len(set(side)) < 2 for side in sides):
        return Ranking(first, second, len(common), None)
    from scipy.stats import spearmanr

    rho: Any = spearmanr(sides[0], sides[1])
    return Ranking(first, second, len(common), float(rho.statistic))


def named_by_file(means: Mapping[str, float]) -> dict[str, float]:
    """Recordings by the name of their file: `recordings(path=logs/macrs.jsonl)` as `macrs`."""
    return {
        (found[1] if (found := _FILE.search(label)) else label): mean
        for label, mean in means.items()
    }


def behaviour_sheet(found: Sequence[Behaviour], notes: Sequence[str]) -> Sheet:
    """A row for each group of cells."""
    rows = [
        [
            one.label,
            f"{one.dialogues:,}",
            *map(str, (one.leaks, one.unshown, one.refused, one.disagreed, one.never_shown,
                       one.empty, one.repeated, one.helped, one.hindered)),
        ]
        for one in found
    ]  # fmt: skip
    heads = ["dialogues", "leak", "accept, no target shown", "refuse, target shown",
             "disagree with the rule", "buy what was never shown", "empty words",
             "repeated words", "fault that helps", "fault that hinders"]  # fmt: skip
    return Sheet(["user"], heads, [[SheetCell(text) for text in row] for row in rows], list(notes))


def words_sheet(found: Sequence[Behaviour]) -> Sheet:
    """Mean words of a user's message, by turn."""
    last = max((len(one.words) for one in found), default=0)
    rows = [
        [SheetCell(one.label), *(SheetCell(_figure(one.words[n : n + 1])) for n in range(last))]
        for one in found
    ]
    heads = ["opening", *map(str, range(1, last))] if last else []
    return Sheet(["words by turn"], heads, rows, [])


def _figure(values: Sequence[float]) -> str:
    return f"{values[0]:.1f}" if values and values[0] == values[0] else UNDEFINED


def check_has_dialogues(results: Results) -> None:
    """UsageError if no dialogue is finished."""
    (count,) = results.query("SELECT count(*) FROM episodes WHERE status = 'done'").fetchall()[0]
    if not count:
        raise UsageError(f"{results.folder} has no finished dialogue")


def notes(results: Results) -> list[str]:
    """What a reader must know of the counts."""
    withheld = (
        [] if has_texts(results) else ["the messages have no texts, so words are not counted"]
    )
    return [
        *withheld,
        "shares are empty for users that do not record leaks, a rule's decision or purchases; "
        "repeated words repeat an earlier message of the dialogue; faults are counted only in "
        "dialogues that the judge `user_review` has read",
        *watermarks(results),
    ]
