"""SQL over the verdicts of one judge, whose label replaces `{judge}`.

Several samples are averaged first, for each subject and dimension. Labels by people are left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from analysis import sql


def of_judge(text: str, title: str) -> str:
    """SQL of this module for the judge with this label."""
    return text.replace("{judge}", sql_string(title))


def turn_scores(dimensions: Iterable[str]) -> str:
    """SQL: attempt_id and score, the mean over its turns of what a judge says in `dimensions`."""
    named = ", ".join(map(sql_string, dimensions))
    return sql.read("turn_scores").format(scores=sql.read("scores"), dimensions=named)


def persuasion() -> str:
    """SQL: attempt_id, item, i_pre, i_post, i_true and p of what the judge `intention` judged."""
    return sql.read("persuasion").format(scores=sql.read("scores"))


def intention_after() -> str:
    """SQL: attempt_id, num and den of each dialogue: what `intention` says after the words."""
    return (
        "SELECT attempt_id, sum(score) AS num, count(score) AS den "
        f"FROM ({sql.read('scores')}) WHERE dimension = 'post' GROUP BY attempt_id"
    )


def accepted_persuasion() -> str:
    """SQL: attempt_id, accepted, judged and p of every dialogue."""
    return sql.read("accepted_persuasion").format(persuasion=persuasion())


def convincing() -> str:
    """SQL: attempt_id, accepted, right_item, credibility and fixed_sentences of every dialogue."""
    return sql.read("convincing").format(turn_scores=turn_scores(["credibility"]))


def pairs() -> str:
    """SQL: attempt_id, other_attempt_id, prefix, turn, item, other_reply, dimension, result and
    order_bias of each pair."""
    return sql.read("pairs")


def judged_labels() -> str:
    """SQL: unit and value of each label by a judge; `labels` has those by people."""
    return sql.read("judged_labels").replace("{pairs}", pairs())


def sides() -> str:
    """SQL: attempt_id, dimension, result and order_bias for each side of each pair."""
    return sql.read("sides").format(pairs=pairs())


def of_people(text: str, plugin: str) -> str:
    """SQL of this module for the labels that people gave to the questions of this plug-in.

    A unit's labels are averaged, as a judge's samples are; for a pair the majority counts.
    """
    said = text.replace(pairs(), sql.read("people_pairs"))
    said = said.replace(
        "judge = {judge} AND annotator IS NULL", "judge = {judge} AND annotator IS NOT NULL"
    )
    return of_judge(said, plugin)


def labelled(title: str, plugin: str) -> str:
    """SQL: attempt_id and num of each dialogue that a judge was asked about.

    `num` is 1 if people have labelled everything that the judge was asked about.
    """
    return of_judge(sql.read("labelled"), title).replace("{people}", sql_string(plugin))


def sql_string(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
