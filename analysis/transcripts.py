"""Reads stored dialogues for judges, in batches.

Only attempts in the view `episodes` count, which has one for each episode. Failed ones are not
judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

import pyarrow as pa

from agents.core.seeds import Seeds
from analysis.results import Results
from sweeps.judgements import StoredDialogue, StoredTurn

BATCH = 2_000  # dialogues that are in memory at once

_COLUMNS = ("cell", "case_id", "seed", "seed_training", "seed_order")


class Transcripts:
    """The done episodes of the plan in a folder, by their position in the order of their cases.

    `where` is a condition in SQL on the columns of `episodes`; at most `limit` are taken. Raises
    UsageError for a condition that is none.
    """

    def __init__(self, results: Results, where: str | None = None, limit: int | None = None):
        self._results = results
        if where:  # as one whole condition, before it is a part of a larger one
            results.check_select(f"SELECT 1 FROM episodes WHERE {where}")
        chosen = f" AND ({where}\n)" if where else ""
        limited = "" if limit is None else f" LIMIT {limit}"
        text = (
            "SELECT episode_id, attempt_id, transcript_hash, cell, case_id, seed, seed_training, "
            f"seed_order FROM episodes WHERE status = 'done'{chosen} "
            f"ORDER BY position, cell, seed, seed_training, seed_order{limited}"
        )
        results.check_select(text)
        self.heads: pa.Table = results.arrow(text)
        """A row for each: its ids, transcript hash, cell, case and seeds."""

    def __len__(self) -> int:
        return self.heads.num_rows

    @cached_property
    def places(self) -> dict[tuple[int, str, Seeds], int]:
        """(cell, case, seeds) of each dialogue -> its position."""
        columns = [self.heads[name].to_pylist() for name in _COLUMNS]
        return {
            (cell, case, Seeds(*seeds)): index
            for index, (cell, case, *seeds) in enumerate(zip(*columns, strict=True))
        }

    def partner(self, cell: int, case: str, seeds: Seeds) -> int | None:
        """The position of the dialogue of `cell` with this case and these seeds, or of the only one
        with another order: agents without memory have none. None if there is neither."""
        exact = self.places.get((cell, case, seeds))
        if exact is not None:
            return exact
        alike = self._of_any_order.get((cell, case, seeds.sampling, seeds.training), ())
        return alike[0] if len(alike) == 1 else None

    @cached_property
    def _of_any_order(self) -> dict[tuple[int, str, int, int], list[int]]:
        found: dict[tuple[int, str, int, int], list[int]] = {}
        for (cell, case, seeds), place in self.places.items():
            found.setdefault((cell, case, seeds.sampling, seeds.training), []).append(place)
        return found

    def batches(self) -> Iterator[list[StoredDialogue]]:
        """All dialogues, in order."""
        for start in range(0, len(self), BATCH):
            positions = range(start, min(start + BATCH, len(self)))
            found = self.read(positions)
            yield [found[position] for position in positions]

    def read(self, positions: Sequence[int]) -> dict[int, StoredDialogue]:
        """The dialogues at these positions."""
        distinct = sorted(set(positions))
        chosen = self.heads.take(pa.array(distinct, pa.int64()))
        chosen = chosen.append_column("place", pa.array(range(len(distinct)), pa.int32()))
        self._results.db.register("chosen_dialogues", chosen)
        rows = self._results.query(
            "SELECT c.place, t.turn, t.agent_text, t.action, t.shown, t.user_text, "
            "t.user_decision, t.accepted_item "
            "FROM turns t JOIN chosen_dialogues c USING (attempt_id) ORDER BY c.place, t.turn"
        )
        heads = chosen.to_pylist()
        found: dict[int, StoredDialogue] = {}
        for place, turns in groupby(rows.fetchall(), key=lambda row: row[0]):
            head = heads[place]
            opening, *others = turns
            found[distinct[place]] = StoredDialogue(
                head["episode_id"],
                head["attempt_id"],
                head["transcript_hash"],
                head["cell"],
                head["case_id"],
                Seeds(head["seed"], head["seed_training"], head["seed_order"]),
                opening[5],
                tuple(
                    StoredTurn(number, text, action, tuple(shown), said, decision, accepted)
                    for _, number, text, action, shown, said, decision, accepted in others
                ),
            )
        return found
