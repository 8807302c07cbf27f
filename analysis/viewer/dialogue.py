"""A stored dialogue for display: its turns, their calls, and verdicts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from analysis.viewer.index import Index
from analysis.viewer.queries import name_rows
from sweeps.judgements import DECISION_LABELS, DECISIONS

_LONG = ("prompt", "reply", "thinking")  # columns of calls that are read when a person looks
Titles = Mapping[str, str]
"""Item id -> title."""

NO_TITLES: Titles = {}
RANKS = 50
"""How many items of a ranking or of candidates are listed."""


class ListedItem(NamedTuple):
    item: str
    target: bool
    accepted: bool
    title: str = ""
    """Empty if unknown."""


class ItemList(NamedTuple):
    """A ranking or candidates: the first items, the total number, and the positions of targets."""

    items: Sequence[ListedItem]
    total: int
    places: Sequence[int]
    """1-based places of targets."""


@dataclass
class TurnView:
    number: int
    agent_text: str | None
    user_text: str
    action: str | None
    strategy: str | None
    shown: Sequence[ListedItem]
    ranking: ItemList | None
    candidates: ItemList | None
    decision: str | None
    accepted_item: str | None
    accepted_title: str
    leaves: bool
    critic: str | None
    """The critic's score, or a note that it is missing; None without a critic."""
    records: Sequence[tuple[str, str]]
    """Heading and indented JSON of the records of agent and user."""
    flags: Sequence[str]
    verdicts: list[Mapping[str, Any]] = field(default_factory=list)
    calls: Mapping[str, int] = field(default_factory=dict)
    """Totals over its calls: calls, tokens, cached, retries, invalid."""

    def words(self) -> tuple[Any, ...]:
        """What has to be equal for two dialogues to count as identical so far."""
        shown = [listed.item for listed in self.shown]
        return self.agent_text, self.action, shown, self.user_text, self.decision


@dataclass
class DialogueView:
    row: Mapping[str, Any]
    """Of the index: outcome, tokens, case and seeds."""
    episode: Mapping[str, Any]
    """Of the table episodes."""
    turns: Sequence[TurnView]
    verdicts: Sequence[Mapping[str, Any]]
    """On the whole dialogue."""
    calls: Mapping[str, int]
    titles: Titles
    """Of its items, as far as they are known."""


def row_of(index: Index, attempt: str) -> dict[str, Any] | None:
    """The index row of an attempt, even if another attempt has replaced it."""
    rows = index.rows("SELECT * FROM listed WHERE attempt_id = ?", [attempt])
    name_rows(index, rows)
    for row in rows:
        row["position"] = row["place"] // 2**31
    return rows[0] if rows else None


def siblings(index: Index, row: Mapping[str, Any], snapshot: int) -> list[dict[str, Any]]:
    """The same case and seeds in all cells of the same domain and split.

    Only agents with memory have an order: where a cell lacks that of `row`, it is left out of this.
    """
    cells = index.manifest.cells
    source = cells[row["cell"]].source_id
    rows = index.rows(
        "SELECT l.* FROM listed l "
        "JOIN plan_repetitions r ON r.repetition = l.place % 2147483648 "
        "WHERE l.place BETWEEN ? AND ? AND since <= ? AND ? < until "
        "AND r.seed = ? AND r.seed_training = ? "
        "QUALIFY row_number() OVER (PARTITION BY l.cell ORDER BY r.seed_order <> ?) = 1 "
        "ORDER BY l.cell",
        [
            row["position"] * 2**31, (row["position"] + 1) * 2**31 - 1, snapshot, snapshot,
            row["seed"], row["seed_training"], row["seed_order"],
        ],
    )  # fmt: skip
    return [found for found in rows if cells[found["cell"]].source_id == source]


def read(index: Index, row: Mapping[str, Any], titles: Titles = NO_TITLES) -> DialogueView:
    """A dialogue without the texts of its calls. Raises StoreError and PartDamaged."""
    attempt, bundle = row["attempt_id"], index.bundle_of(row["bundle_id"])
    stored = index.stored
    (episode,) = stored["episodes"].find("attempt_id", attempt, bundle)[:1] or ({},)
    targets = frozenset(episode.get("targets") or ())
    turns = [
        _turn(found, targets, titles)
        for found in sorted(
            stored["turns"].find("attempt_id", attempt, bundle), key=lambda found: found["turn"]
        )
    ]
    calls = stored["calls"].find("attempt_id", attempt, bundle, without=_LONG)
    by_turn: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for call in calls:
        by_turn[call["turn"]].append(call)
    for turn in turns:
        turn.calls = _sums(by_turn.pop(turn.number, []))
    for number, left in sorted(by_turn.items()):  # of a turn that an error cut short
        turns.append(_broken_off(number, _sums(left)))
    verdicts = _verdicts(index, attempt)
    numbers = {turn.number: turn for turn in turns}
    whole = []
    for verdict in verdicts:
        turn = numbers.get(verdict["turn"])
        (whole if turn is None else turn.verdicts).append(verdict)
    return DialogueView(row, episode, turns, whole, _sums(calls), titles)


def calls_of(index: Index, row: Mapping[str, Any], turn: int) -> list[dict[str, Any]]:
    """The calls of one turn with all texts, prompts as messages."""
    found = index.stored["calls"].find(
        "attempt_id", row["attempt_id"], index.bundle_of(row["bundle_id"]), turn=turn
    )
    return [{**call, "messages": _messages(call["prompt"])} for call in found]


class AlignedTurn(NamedTuple):
    """A turn of two dialogues side by side."""

    number: int
    sides: tuple[TurnView | None, TurnView | None]
    same: bool
    first_difference: bool
    """Whether it is the first turn that differs."""


def side_by_side(one: DialogueView, other: DialogueView) -> list[AlignedTurn]:
    """The turns of two dialogues, aligned by number."""
    sides = [{turn.number: turn for turn in view.turns} for view in (one, other)]
    found: list[AlignedTurn] = []
    parted = False
    for number in sorted(sides[0].keys() | sides[1].keys()):
        a, b = sides[0].get(number), sides[1].get(number)
        same = a is not None and b is not None and a.words() == b.words()
        found.append(AlignedTurn(number, (a, b), same, not same and not parted))
        parted = parted or not same
    return found


def _turn(row: Mapping[str, Any], targets: frozenset[str], titles: Titles) -> TurnView:
    accepted = row["accepted_item"]
    extra, user_extra = row["extra"], row["user_extra"]
    records = [
        ("agent's record", extra),
        ("user's record", user_extra),
        ("feedback", row["feedback"]),
        ("critic's record", row.get("critic_extra") or "{}"),
    ]
    recorded = _json(user_extra)
    known = recorded if isinstance(recorded, dict) else {}
    flags = [
        words
        for key, words in (("leak", "names a target"), ("disagrees", "disagrees with its targets"))
        if known.get(key) is True
    ]
    return TurnView(
        number=row["turn"],
        agent_text=row["agent_text"],
        user_text=row["user_text"],
        action=row["action"],
        strategy=row["strategy"],
        shown=_listed(row["shown"], targets, accepted, titles),
        ranking=_ranking(row, targets, accepted, titles),
        candidates=_items(row["candidates"], targets, accepted, titles),
        decision=row["user_decision"],
        accepted_item=accepted,
        accepted_title=titles.get(accepted or "", ""),
        leaves=row["user_leaves"],
        critic=_critic(row),
        records=[(name, _indented(text)) for name, text in records if text not in ("{}", "null")],
        flags=flags,
    )


def _critic(row: Mapping[str, Any]) -> str | None:
    if row.get("critic_extra") is None:
        return None
    score = row["critic_score"]
    return "no verdict" if score is None else f"{score:.2f}"


def _broken_off(number: int, calls: Mapping[str, int]) -> TurnView:
    return TurnView(number, None, "", None, None, [], None, None, None, None, "", False, None,
                    [],
                    ["broken off by an error"], calls=calls)  # fmt: skip


def _ranking(
    row: Mapping[str, Any], targets: frozenset[str], accepted: str | None, titles: Titles
) -> ItemList | None:
    """The stored part of a ranking, with the length and the target's rank in the whole."""
    found = _items(row["ranking"], targets, accepted, titles)
    if found is None or row.get("ranked") is None:
        return found
    rank = row["target_rank"]
    beyond = [rank] if rank is not None and rank not in found.places else []
    return found._replace(total=row["ranked"], places=[*found.places, *beyond])


def _items(
    items: Sequence[str] | None, targets: frozenset[str], accepted: str | None, titles: Titles
) -> ItemList | None:
    if items is None:
        return None
    places = [place for place, item in enumerate(items, start=1) if item in targets]
    return ItemList(_listed(items[:RANKS], targets, accepted, titles), len(items), places)


def _listed(
    items: Sequence[str], targets: frozenset[str], accepted: str | None, titles: Titles
) -> list[ListedItem]:
    return [ListedItem(i, i in targets, i == accepted, titles.get(i, "")) for i in items]


def _sums(calls: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "calls": len(calls),
        "tokens": sum(
            max(call[name] or 0, 0) for call in calls for name in ("input_tokens", "output_tokens")
        ),
        "cached": sum(call["cached"] for call in calls),
        "retries": sum(call["retries"] for call in calls),
        "invalid": sum(not call["valid"] for call in calls),
    }


def _verdicts(index: Index, attempt: str) -> list[dict[str, Any]]:
    """What judges and people said of a dialogue, with their reasons."""
    rows = index.rows(
        "SELECT judge, dimension, turn, item, sample, \"order\", status, value, annotator, "
        "judging_id, bundle_id, judgement_id, attempt_id, other_attempt_id FROM judgements "
        "WHERE attempt_id = ? OR other_attempt_id = ? "
        "ORDER BY turn, judge, item, dimension, sample, \"order\", annotator",
        [attempt, attempt],
    )  # fmt: skip
    reasons: dict[tuple[Any, ...], str] = {}
    for judging, bundle in {(row["judging_id"], row["bundle_id"]) for row in rows}:
        stored = index.stored["judgements"]
        where = bundle if stored.knows(bundle) else None
        for found in stored.find("judging_id", judging, where):
            key = tuple(found[n] for n in ("judging_id", "dimension", "turn", "item", "order"))
            reasons[key] = found["reason"] or found["error"] or ""
    for row in rows:
        key = tuple(row[n] for n in ("judging_id", "dimension", "turn", "item", "order"))
        row["reason"] = reasons.get(key, "")
        decided = row["annotator"] is not None and row["judge"] == DECISIONS
        row["label"] = DECISION_LABELS.get(row["value"]) if decided else None
        row["opponent"] = (
            row["other_attempt_id"] if row["attempt_id"] == attempt else row["attempt_id"]
        )
    return rows


def _messages(prompt: str) -> list[tuple[str, str]]:
    """Role and words of each message; of texts to embed, the texts."""
    read = _json(prompt)
    if not isinstance(read, list):
        return [("prompt", prompt)]
    return [
        (str(m.get("role", "")), str(m.get("content", ""))) if isinstance(m, dict) else ("", str(m))
        for m in read
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _indented(text: str) -> str:
    read = _json(text)
    return text if read is None else json.dumps(read, ensure_ascii=False, indent=2)
