"""LastFM as SCPR and UNICORN published it: artists with tags, and people who listened to them.

The data comes from HetRec 2011 (non-commercial research) and is never part of crsweep.

- Facts of an artist are its tags and nothing else: 33 tags, most of them genres.
- The files list 150 artists without a name, which no user listened to. They are left out.
- How often a user listened, which HetRec 2011 has, is not part of this layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.core.errors import DataError
from simulators.core.cases import Published
from simulators.domains.core.described_items import ListedItems, listed_items, read_described
from simulators.domains.core.fields import distinct, texts_in
from simulators.domains.core.json_files import as_json, number_of, read_object
from simulators.domains.core.published_split import GRAPH, NAMES, SplitDomain, SplitOptions

__all__ = ["LastFM"]

_NO_NAME = "None"  # what the files have in place of a name


class LastFM(SplitDomain):
    """Artists, and people who listened to them, from a folder with the published files."""

    Options = SplitOptions
    name = "lastfm"
    item_files = (
        (GRAPH, "item_dict.json"),
        (NAMES, "item_reverse_map.json"),
        (NAMES, "tag_reverse_map.json"),
    )

    @property
    def dataset(self) -> str:
        return "LastFM"

    def published(self) -> Published | None:
        return Published(
            "DESIRE, section 4.1.1",
            {"users": 1_801, "items": 7_432, "attributes": 33, "interactions": 76_693},
        )

    def read_items(self, paths: Sequence[Path]) -> ListedItems:
        listing, names_file, tags_file = paths
        names, tags = _names(names_file, "an artist"), _names(tags_file, "a tag")
        artists = read_described(listing, {number for number, tag in tags.items() if tag})
        facts = {
            number: {"tag": distinct(tags[feature] for feature in artist.features)}
            if artist.features
            else {}
            for number, artist in artists.items()
        }
        return listed_items(
            {number: names.get(number, "") for number in artists},
            facts,
            noun="music artist",
            names=names_file,
            attributes=len(tags),
        )


def _names(path: Path, what: str) -> dict[int, str]:
    """The first name of each number in a file of `ID_map_info`; empty where it has none."""
    found = {}
    expected = "a JSON object that maps numbers to objects with a real_name"
    for key, value in read_object(path, expected).items():
        number = number_of(path, key, what)
        if not isinstance(value, dict) or not isinstance(value.get("real_name"), list):
            raise DataError(
                f"{path}: number {number}: found {as_json(value)}, expected an object with a "
                "real_name, which is a list of names"
            )
        names = [name for name in texts_in(value, "real_name") if name != _NO_NAME]
        found[number] = names[0] if names else ""
    return found
