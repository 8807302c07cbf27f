"""Metrics on verdicts: scripted verdicts give exactly what is computed by hand."""

from __future__ import annotations

import pytest

from agents.core import plugins
from agents.core.errors import UsageError
from analysis.metrics.core import METRICS, KnownJudge, judged_by, parse_metric
from analysis.results import Results
from analysis.statistics.compare import compare
from analysis.tables.table import Table, Value, make_table
from tests.analysis.builder import Built, grid_of

PARTS = ("clarity", "sufficiency", "alignment")
CHOICES = ("persuasiveness", "trustworthiness", "groundedness", "overall")


def one_cell(episodes: int, *, seeds: int = 1) -> Built:
    return Built(
        grid_of("a", backbones=["s"]),
        seeds=list(range(seeds)),
        case_ids=[f"u{n}" for n in range(episodes)],
    )


def table_of(built: Built, folder, *metrics: str) -> Table:
    return make_table(Results.open(built.write(folder)), metrics)


def value_of(built: Built, folder, metric: str) -> Value:
    return table_of(built, folder, metric).rows[0].values[0]


# Relevance and credibility: means over samples, dimensions, turns, dialogues, seeds.


def test_relevance_is_the_mean_of_turns_then_of_dialogues(tmp_path):
    built = one_cell(3)
    judge = built.judge("relevance", *PARTS)
    long, short, _ = (built.episode(built.cells[0], case, 0) for case in built.case_ids)
    for turn, scores in enumerate([(5, 4, 3), (3, 3, 3), (1, 2, 3)], start=1):
        for part, score in zip(PARTS, scores, strict=True):
            built.verdict(judge, long, part, score, turn=turn)
    for part, score in zip(PARTS, (5, 5, 2), strict=True):
        built.verdict(judge, short, part, score, turn=1)
    metrics = ("relevance", *(f"relevance_{part}" for part in PARTS))
    values = table_of(built, tmp_path, *metrics).rows[0].values
    assert [v.mean for v in values] == [
        pytest.approx(((4 + 3 + 2) / 3 + 4) / 2),
        pytest.approx(((5 + 3 + 1) / 3 + 5) / 2),
        pytest.approx(((4 + 3 + 2) / 3 + 5) / 2),
        pytest.approx((3 + 2) / 2),
    ]
    assert {v.episodes for v in values} == {2}  # nothing was said of the third dialogue


def test_samples_of_a_turn_are_averaged_before_turns_are(tmp_path):
    built = one_cell(1)
    judge = built.judge("credibility", "credibility", samples=3)
    (case,) = built.case_ids
    episode = built.episode(built.cells[0], case, 0)
    for sample, score in enumerate((5, 5, 2)):
        built.verdict(judge, episode, "credibility", score, turn=1, sample=sample)
    built.verdict(judge, episode, "credibility", 1, turn=2, sample=0)
    built.verdict(judge, episode, "credibility", 5, turn=2, sample=3)  # beyond the plan's samples
    assert value_of(built, tmp_path, "cred_per_turn").mean == pytest.approx((4 + 1) / 2)


def test_dialogues_with_fewer_samples_than_the_judge_is_asked_for_are_counted_below(tmp_path):
    built = one_cell(3)
    judge = built.judge("credibility", "credibility", samples=2)
    for case, turns in zip(built.case_ids, ((2, 2), (2, 1), (1, 1)), strict=True):
        episode = built.episode(built.cells[0], case, 0)
        for turn, samples in enumerate(turns, start=1):
            for sample in range(samples):
                built.verdict(judge, episode, "credibility", 4, turn=turn, sample=sample)
    (note,) = (n for n in table_of(built, tmp_path, "cred_per_turn").notes if "samples" in n)
    assert note.startswith("judge credibility: 2 of 3 dialogues have fewer than 2 samples; each")


def test_the_table_has_mean_and_deviation_over_seeds_and_compare_pairs_cases(tmp_path):
    built = Built(grid_of("a", "b", backbones=["s"]), seeds=[0, 1])
    judge = built.judge("credibility", "credibility")
    for cell in built.cells:
        for number, case in enumerate(built.case_ids):
            for seed in built.seeds:
                score = 1 + number % 2 + seed + (cell.axes["agent"] == "a")
                built.verdict(judge, built.episode(cell, case, seed), "credibility", score)
    results = Results.open(built.write(tmp_path))
    first = make_table(results, ["cred_per_turn"]).rows[0].values[0]
    assert (first.mean, first.std) == (pytest.approx(3.0), pytest.approx(0.5**0.5))
    found = compare(results, "cred_per_turn", "agent", "a", "b")
    assert (found.difference, found.cases) == (pytest.approx(1.0), 4)


# Persuasiveness.

JUST_RIGHT = (2, 4, 4)  # P = 1 - (4 - 4) / (4 - 2) = 1
HALF = (2, 3, 4)  # 1 - 1 / 2 = 0.5
EQUAL = (3, 5, 3)  # i_true = i_pre: undefined
OVER = (2, 5, 4)  # i_post > i_true: 1 - (-1) / 2 = 1.5
BELOW = (3, 2, 5)  # 1 - 3 / 2 = -0.5
FALLS = (4, 1, 2)  # the facts disappoint, the words more so: 1 - 1 / (-2) = 1.5
ACCEPTED = (JUST_RIGHT, HALF, EQUAL, OVER, BELOW, FALLS)


def judged_intentions(rejected: int = 2) -> Built:
    """Six dialogues with an acceptance, `rejected` without, and one that the agent failed."""
    built = one_cell(len(ACCEPTED) + rejected + 1)
    judge = built.judge("intention", "pre", "post", "true")
    cell, cases = built.cells[0], list(built.case_ids)
    for scores in ACCEPTED:
        episode = built.episode(cell, cases.pop(), 0, success_turn=2, accepted_item="i0")
        for name, score in zip(("pre", "post", "true"), scores, strict=True):
            built.verdict(judge, episode, name, score, turn=2, item="i0")
    for _ in range(rejected):
        built.episode(cell, cases.pop(), 0)
    built.failed(cell, cases.pop(), 0, "agent")
    return built


@pytest.mark.parametrize(
    ("metric", "mean", "n"),
    [
        ("prs_zero_if_rejected", 100 * (1 + 0.5 + 1.5 - 0.5 + 1.5) / 8, 8),
        ("prs_zero_if_rejected_completed", 100 * (1 + 0.5 + 1.5 - 0.5 + 1.5) / 7, 7),
        ("prs_over_accepted", 100 * (1 + 0.5 + 1.5 - 0.5 + 1.5) / 5, 5),
        ("prs_filtered", (1 + 0.5 - 0.5 + 1.5) / 4, 4),
        ("prs_abs", (1 + 0.5 + 0 + 0.5 - 0.5 + 0.5) / 6, 6),
    ],
)
def test_persuasiveness_in_each_definition(tmp_path, metric, mean, n):
    found = value_of(judged_intentions(), tmp_path, metric)
    assert (found.mean, found.episodes) == (pytest.approx(mean), n)


def test_what_persuasiveness_is_based_on_is_printed_below_the_table(tmp_path):
    notes = table_of(judged_intentions(), tmp_path, "sr@5", "prs_zero_if_rejected").notes
    assert (
        "persuasiveness by judge intention: 6 recommendations, 4 used by prs_filtered, 1 with "
        "i_true = i_pre (undefined), 1 with i_post > i_true; 3 outside [0, 1]"
    ) in notes
    assert (
        "prs_zero_if_rejected is defined for 8 of 9 episodes; left out: acceptances without "
        "verdicts, or with i_true = i_pre"
    ) in notes


def test_without_any_acceptance_only_the_mean_with_zeros_is_defined(tmp_path):
    built = one_cell(2)
    built.judge("intention", "pre", "post", "true")
    for case in built.case_ids:
        built.episode(built.cells[0], case, 0)
    names = ["prs_zero_if_rejected", "prs_over_accepted", "prs_filtered", "prs_abs"]
    values = table_of(built, tmp_path, *names).rows[0].values
    assert [v.mean for v in values] == [0, None, None, None]


def test_a_verdict_on_another_item_than_the_accepted_one_is_not_counted_for_it(tmp_path):
    built = one_cell(1)
    judge = built.judge("intention", "pre", "post", "true")
    episode = built.episode(built.cells[0], "u0", 0, success_turn=2, accepted_item="i0")
    for name, score in zip(("pre", "post", "true"), HALF, strict=True):
        built.verdict(judge, episode, name, score, item="i7")
    values = table_of(built, tmp_path, "prs_zero_if_rejected", "prs_filtered").rows[0].values
    assert [v.mean for v in values] == [None, 0.5]


def test_an_intention_that_was_never_parsed_is_missing_and_no_score(tmp_path):
    built = judged_intentions()
    (judge,) = built.judges
    for case, scores in (("u7", (2, None, 4)), ("u8", (None, None, None))):
        rows = built.rows["judgements"]
        kept = [row for row in rows if f"-{case}-" not in row["attempt_id"]]
        rows[:] = kept
        episode = next(e for e in built.rows["episodes"] if e["case_id"] == case)
        for name, score in zip(("pre", "post", "true"), scores, strict=True):
            built.verdict(judge, episode, name, score, turn=2, item="i0")
    table = table_of(built, tmp_path, "prs_abs", "prs_zero_if_rejected")
    first, second = table.rows[0].values
    assert (first.mean, first.episodes) == (pytest.approx((0 + 0.5 - 0.5 + 0.5) / 4), 4)
    assert (second.mean, second.episodes) == (pytest.approx(100 * (1.5 - 0.5 + 1.5) / 6), 6)
    assert (
        "judge intention: 4 of 18 verdicts are unparsed and left out (post 2, pre 1, true 1)"
    ) in table.notes


# Convincing acceptance.

ACCEPTANCES = [
    ("i0", [4, 4]),  # right, and at the threshold
    ("i0", [4, 3]),  # right, and below it
    ("i9", [5, 5]),  # credible, and wrong
    ("i0", []),  # right, and nothing is known of its credibility
    (None, [5]),  # nothing accepted
]


def accepting(samples: int = 1) -> Built:
    built = one_cell(len(ACCEPTANCES) + 1)
    judge = built.judge("credibility", "credibility", samples=samples)
    cases = list(built.case_ids)
    for item, scores in ACCEPTANCES:
        won = 2 if item else None
        episode = built.episode(
            built.cells[0], cases.pop(), 0, success_turn=won, accepted_item=item
        )
        for turn, score in enumerate(scores, start=1):
            for sample in range(samples):
                built.verdict(judge, episode, "credibility", score, turn=turn, sample=sample)
    built.failed(built.cells[0], cases.pop(), 0, "agent")
    return built


@pytest.mark.parametrize(
    ("metric", "mean", "n"),
    [
        ("ca_over_all@4", 100 * 1 / 5, 5),
        ("ca_over_all@3.5", 100 * 2 / 5, 5),
        ("ca_over_all@3.6", 100 * 1 / 5, 5),
        ("ca_over_all@5", 0, 5),
        ("ca_over_all_completed@4", 100 * 1 / 4, 4),
        ("ca_over_accepted@4", 100 * 1 / 3, 3),
        ("ca_over_accepted@3.5", 100 * 2 / 3, 3),
    ],
)
def test_convincing_acceptance_at_the_edge_of_the_threshold(tmp_path, metric, mean, n):
    found = value_of(accepting(), tmp_path, metric)
    assert (found.mean, found.episodes) == (pytest.approx(mean), n)


def test_convincing_acceptance_is_undefined_for_an_agent_that_speaks_in_fixed_sentences(tmp_path):
    built = accepting()
    built.cells[0].fixed_sentences = True
    assert value_of(built, tmp_path / "all", "ca_over_all@4").mean is None
    assert value_of(built, tmp_path / "accepted", "ca_over_accepted@4").mean is None
    assert value_of(built, tmp_path / "credibility", "cred_per_turn").mean is not None


def test_a_threshold_that_a_mean_of_samples_meets_is_met(tmp_path):
    built = one_cell(1)
    judge = built.judge("credibility", "credibility", samples=3)
    episode = built.episode(built.cells[0], "u0", 0, success_turn=3, accepted_item="i0")
    # 10/3, 11/3 and 5: their mean is 4, and a sum of thirds need not be.
    for turn, scores in enumerate([(3, 3, 4), (3, 4, 4), (5, 5, 5)], start=1):
        for sample, score in enumerate(scores):
            built.verdict(judge, episode, "credibility", score, turn=turn, sample=sample)
    assert value_of(built, tmp_path, "ca_over_all@4").mean == 100


def test_a_number_above_the_success_rate_is_pointed_out_with_the_reason(tmp_path):
    built = judged_intentions(rejected=0)
    table = table_of(built, tmp_path / "high", "sr@5", "prs_zero_if_rejected")
    sr, prs = table.rows[0].values
    assert sr.mean is not None and prs.mean is not None
    assert prs.mean < 100 * sr.mean
    assert not any("exceeds" in note for note in table.notes)
    for row in built.rows["judgements"]:
        if row["dimension"] == "post":
            row["value"] = 2 if row["value"] == FALLS[1] else 5
    table = table_of(built, tmp_path / "higher", "sr@5", "prs_zero_if_rejected")
    # P is 1.5, 1.5, undefined, 1.5, 1 and 1; one dialogue failed, and counts 0.
    assert [note for note in table.notes if "exceeds" in note] == [
        "prs_zero_if_rejected 108.33 exceeds 100 x sr@5 = 85.71 (left out: 1 episode; P is "
        "above 1 in 3 dialogues)"
    ]
    table = table_of(built, tmp_path / "early", "sr@3", "prs_zero_if_rejected")
    assert not any("exceeds" in note for note in table.notes)  # successes after turn 3 count too


# Pairs.


def paired(verdicts: list[tuple[float | None, float | None]], **judge) -> Built:
    """One pair a case: the value in the order ab, and in the order ba."""
    built = Built(
        grid_of("a", "b", backbones=["s"]),
        seeds=[0],
        case_ids=[f"u{n}" for n in range(len(verdicts))],
    )
    choice = {"of": "response", "axis": "agent", "baseline": "a", "against": ["b"], **judge}
    entry = built.judge("pairwise", *CHOICES, scale=(0, 1), pairs=choice)
    for case, values in zip(built.case_ids, verdicts, strict=True):
        a, b = (built.episode(cell, case, 0) for cell in built.cells)
        for order, value in zip(("ab", "ba"), values, strict=True):
            built.verdict(entry, a, "overall", value, against=b, order=order)
    return built


PAIRS: list[tuple[float | None, float | None]] = [
    (1, 1),  # a wins
    (1, 1),
    (0, 0),  # a loses
    (0.5, 0.5),  # a tie
    (1, 0),  # the one shown first wins: a tie
    (1, 0.5),  # a tie too
    (1, None),  # one order has no verdict
]


def test_a_verdict_that_depends_on_the_order_is_a_tie_and_counted_as_bias(tmp_path):
    table = table_of(paired(PAIRS), tmp_path, "win_rate@overall", "order_bias@overall")
    (a_wins, a_bias), (b_wins, b_bias) = (row.values for row in table.rows)
    assert (a_wins.mean, a_wins.episodes) == (pytest.approx(2 / 6), 6)
    assert (b_wins.mean, b_wins.episodes) == (pytest.approx(1 / 6), 6)
    assert a_bias.mean == b_bias.mean == pytest.approx(2 / 6)
    assert (
        "judge pairwise: verdicts that depend on the order of the two sides count as ties: "
        "overall 2 of 6"
    ) in table.notes


def test_in_each_order_the_side_wins_that_most_samples_favour(tmp_path):
    built = paired([(1, 1)])
    (judge,) = built.judges
    judge["samples"] = 3
    a, b = built.rows["episodes"]
    for sample, ab, ba in ((1, 0, 0), (2, 1, 0)):
        built.verdict(judge, a, "overall", ab, against=b, order="ab", sample=sample)
        built.verdict(judge, a, "overall", ba, against=b, order="ba", sample=sample)
    # ab: 1, 0, 1 -> a; ba: 1, 0, 0 -> b.
    table = table_of(built, tmp_path, "win_rate@overall", "order_bias@overall")
    assert [v.mean for v in table.rows[0].values] == [0, 1]


def test_pairs_with_an_opponent_that_the_plan_no_longer_names_are_left_out(tmp_path):
    built = paired([(1, 1)], against=[])
    assert value_of(built, tmp_path, "win_rate@overall").mean is None


# Which judge, and which verdicts.


def silent() -> Built:
    """A judge that never answers validly, one whose task failed, and one that does answer."""
    built = one_cell(3)
    judge = built.judge("relevance", *PARTS)
    first, second, third = (built.episode(built.cells[0], case, 0) for case in built.case_ids)
    for part in PARTS:
        built.verdict(judge, first, part, None, turn=1)
        built.verdict(judge, third, part, 2, turn=1)
    built.verdict(judge, second, "clarity", None, status="failed", turn=None)
    built.rows["judgements"][-1]["dimension"] = None
    return built


def test_a_judge_that_never_answers_validly_is_counted_and_changes_no_mean(tmp_path):
    table = table_of(silent(), tmp_path, "relevance")
    value = table.rows[0].values[0]
    assert (value.mean, value.episodes) == (2, 1)
    assert table.notes[1:] == [
        "relevance is defined for 1 of 3 episodes",
        "judge relevance: 3 of 6 verdicts are unparsed and left out (alignment 1, clarity 1, "
        "sufficiency 1)",
        "judge relevance: 1 judgement failed, left out; `crsweep status DIR` says how to run them "
        "again",
    ]


def test_verdicts_count_for_another_attempt_with_the_same_words_and_for_no_other(tmp_path):
    built = one_cell(2)
    judge = built.judge("credibility", "credibility")
    for case, words in zip(built.case_ids, ("same", "changed"), strict=True):
        old = built.episode(built.cells[0], case, 0, transcript_hash="same", driver_epoch=2)
        built.verdict(judge, old, "credibility", 3)
        built.episode(built.cells[0], case, 0, transcript_hash=words, attempt=1, driver_epoch=1)
    found = value_of(built, tmp_path, "cred_per_turn")
    assert (found.mean, found.episodes) == (3, 1)


def two_judges() -> Built:
    built = one_cell(1)
    episode = built.episode(built.cells[0], "u0", 0, success_turn=1, accepted_item="i0")
    for label, score in (("strict", 1), ("lenient", 5)):
        judge = built.judge("credibility", "credibility", label=label)
        built.verdict(judge, episode, "credibility", score)
    person = {"annotator": "p1", "judging_id": "p", "task_id": "p"}
    built.verdict(built.judges[0], episode, "credibility", 5, **person)
    return built


@pytest.mark.parametrize(
    ("metric", "mean"),
    [
        ("cred_per_turn@strict", 1),
        ("cred_per_turn@lenient", 5),
        ("ca_over_all@4:strict", 0),
        ("ca_over_all@4:lenient", 100),
    ],
)
def test_a_label_chooses_between_judges_of_one_plugin_and_people_are_no_judges(
    tmp_path, metric, mean
):
    assert value_of(two_judges(), tmp_path, metric).mean == mean


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("relevance", "the verdicts of the judge 'relevance', which is not in `judges:`"),
        ("cred_per_turn", "'credibility' .strict, lenient.; name one of them: cred_per_turn@s"),
        ("ca_over_all@4", "name one of them: ca_over_all@4:strict"),
        ("cred_per_turn@strickt", "with the label 'strickt'.*did you mean 'strict'"),
        ("ca_over_all@0", "a threshold of '0', expected a score from 1 to 5"),
        ("ca_over_all@four", "a threshold of 'four'"),
        ("ca_over_all", "for example, ca_over_all@4, or ca_over_all@4:LABEL"),
        ("ca_over_all@4:", "for example, ca_over_all@4, or ca_over_all@4:LABEL"),
        ("cred_per_turn@", "expected the label of a judge"),
        ("prs", "prs_abs, prs_filtered, prs_over_accepted, prs_zero_if_rejected"),
        ("relevance_clean", "only metrics of success"),
    ],
)
def test_a_bad_name_says_which_judge_is_missing_or_ambiguous(tmp_path, metric, message):
    with pytest.raises(UsageError, match=message) as raised:
        value_of(two_judges(), tmp_path, metric)
    assert "\n" not in raised.value.message


def test_a_dimension_that_the_judge_does_not_have_is_refused_with_a_near_match(tmp_path):
    with pytest.raises(UsageError, match=r"no dimension 'overal'; did you mean 'overall'.*ground"):
        value_of(paired(PAIRS), tmp_path, "win_rate@overal")


JUDGES = [
    KnownJudge("relevance", "relevance", PARTS),
    KnownJudge("intention", "intention", ("pre", "post", "true")),
    KnownJudge("credibility", "credibility", ("credibility",)),
    KnownJudge("pairwise", "pairwise", CHOICES, of_pairs=True),
]
ARGUMENTS = {"ca_over_all": "@4", "ca_over_accepted": "@4", "win_rate": "@overall",
             "order_bias": "@overall"}  # fmt: skip


@pytest.mark.parametrize(
    "name", [n for n in plugins.names(METRICS) if n.startswith(("prs_", "ca_", "rel", "cred"))]
    + ["win_rate", "order_bias"],
)  # fmt: skip
def test_every_metric_on_verdicts_reads_its_judge_through_a_label(name):
    metric = parse_metric(name + ARGUMENTS.get(name, ""))
    assert metric.judge is not None
    assert "{judge}" in (metric.per_attempt or "")
    bound = judged_by(metric, JUDGES)
    assert "{" not in (bound.per_attempt or "")
    assert bound.judge is not None
    assert bound.judge.label == bound.judge.plugin == (metric.judge.plugin or "pairwise")
