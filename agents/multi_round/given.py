"""Vectors from a file, such as those that another project has trained.

An `.npz` file of numpy with six arrays: `users`, `items` and `facts` of one width (n, d), and as
many strings in `user_ids`, `item_ids` and `fact_names`, where a fact is named `attribute: value`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.core.items import Catalogue
from agents.core.vector_files import ITEM_IDS, ITEMS, NamedRows, VectorFile, read_tables
from agents.multi_round.space import AttributeSpace


def read_vectors(
    file: VectorFile, user_ids: Sequence[str], catalogue: Catalogue
) -> dict[str, np.ndarray]:
    """The tables in the order of `user_ids` and of the catalogue, float32.

    DataError if the file does not have its digest, or lacks a user, an item or a fact.
    Anything else in it is ignored.
    """
    facts = [f"{fact.attribute}: {fact.value}" for fact in AttributeSpace.of(catalogue).facts]
    wanted = {
        "users": NamedRows("user_ids", user_ids),
        ITEMS: NamedRows(ITEM_IDS, [item.id for item in catalogue.items]),
        "facts": NamedRows("fact_names", facts),
    }
    return read_tables(file, wanted)
