"""How the dialogues that people labelled were chosen.

Conclusions from labels about all dialogues require a random choice of the labelled ones. `crsweep
annotate export` records its choice in the sweep's folder, in `annotations/<export>.json`: `items`
is what may be labelled, `drawn` is a `SamplingRecord`. Labels that came with recorded dialogues
have no record, and a person who labelled only some of the items of an export has made a choice as
well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from agents.core.errors import StoreError
from analysis.results import Results
from sweeps.judgements import DECISIONS
from sweeps.storage import folder as folders
from sweeps.storage.folder import Folder

ANNOTATIONS = "annotations"
"""The folder of the keys, in that of the sweep."""
SUFFIX = ".json"

LabelledEpisodes = set[tuple[str, str]]
"""Judge (the plug-in) and episode."""


class SamplingRecord(NamedTuple):
    """How the cases of an export were drawn from those in the folder."""

    seed: int
    cases: int
    """Requested cases of each domain."""
    where: str | None
    whole_cells: bool
    """Whether `where` selected all finished dialogues of a cell and seed, or none."""
    complete: int
    """The number of cases that could be drawn."""
    planned: int

    @property
    def at_random(self) -> bool:
        return self.whole_cells

    def remark(self) -> str | None:
        """Why the labelled cases are not a random sample of the planned ones; None if they are."""
        if not self.whole_cells:
            return (
                f"--where {self.where} selected some of the dialogues of a cell, so they are not a "
                "random sample"
            )
        if self.complete < self.planned:
            return (
                f"drawn from the {self.complete:,} of {self.planned:,} planned cases that were "
                "complete at the time of the export"
            )
        return None


def sampling_record_of(content: Mapping[str, Any]) -> SamplingRecord | None:
    """The draw that a key records; None in a key without one. TypeError if it is damaged."""
    drawn = content.get("drawn")
    return None if drawn is None else SamplingRecord(**drawn)


def in_question_order(results: Results, judge: str, dimensions: Iterable[str]) -> list[str]:
    """`dimensions` of the judge of this name (the plug-in) in the order in which people are asked
    about them, unknown ones last.

    It is the plan's, or of a judge that the plan does not have, that of the exports.
    """
    order = [
        d.name for each in results.manifest.judges if each.name == judge for d in each.dimensions
    ]
    if not order:
        keys = (content for _, content in _keys(results.folder) if content["judge"] == judge)
        order = [question["name"] for content in keys for question in content["questions"]]
    return sorted(dimensions, key=lambda d: (order.index(d) if d in order else len(order), d))


def remarks(results: Results) -> list[str]:
    """Lines on labels that are not a random sample of the dialogues; empty if they are."""
    labelled = _labelled(results)
    at_random: LabelledEpisodes = set()
    found: list[str] = []
    for name, content in _keys(results.folder):
        items = {(content["judge"], item["columns"]["episode_id"]) for item in _items(content)}
        drawn = sampling_record_of(content)
        if drawn is None or content["judge"] == DECISIONS or not items & labelled:
            continue
        if drawn.at_random:
            at_random |= items
        if remark := drawn.remark():
            found.append(f"! labels of export {name}: {remark}")
    other = len(labelled - at_random)
    if other and not _everything(results, labelled):
        found.append(
            f"! {other:,} of {len(labelled):,} labelled dialogues were not drawn at random: the "
            "corrected numbers may be biased"
        )
    missing = len(at_random - labelled)
    if missing:
        found.append(
            f"! {missing:,} of {len(at_random):,} dialogues that were drawn have no label: if "
            "people chose which to answer, the labelled ones are not a random sample"
        )
    return found


def _labelled(results: Results) -> LabelledEpisodes:
    # Decisions correct no metric.
    rows = results.query(
        "SELECT DISTINCT judge, episode_id FROM judgements "
        "WHERE annotator IS NOT NULL AND judge <> ?",
        [DECISIONS],
    )
    return set(rows.fetchall())


def _everything(results: Results, labelled: LabelledEpisodes) -> bool:
    """Whether each finished dialogue is labelled, for each judge that people answer for."""
    [(done,)] = results.query("SELECT count(*) FROM episodes WHERE status = 'done'").fetchall()
    judges = {judge for judge, _ in labelled}
    return len(labelled) >= done * len(judges)


def _keys(folder: Folder) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in folder.names(ANNOTATIONS):
        if not file.endswith(SUFFIX):
            continue
        path = f"{ANNOTATIONS}/{file}"
        try:
            content = json.loads(folders.read(folder, path).decode("utf-8", "surrogatepass"))
            _items(content)
            sampling_record_of(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise StoreError(f"{folder}/{path} is damaged ({what})") from None
        yield file.removesuffix(SUFFIX), content


def _items(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = list(content["items"].values())
    for item in items:
        _ = item["columns"]["episode_id"]
    return items
