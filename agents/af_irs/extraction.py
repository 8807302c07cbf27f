"""Session preferences (AF-IRS, 4.1.2, eq. 1 and 2): from the user's words to nodes of the tree.

The paper: level by level, from the root, the model selects among the children of the nodes that it
selected before, in order of relevance; what it selects last are the session preferences. Decided:

- A node beneath which nothing is selected is a preference itself; its items are all below it.
- An only child is followed without asking, since it has the same items; so is an only category.
- "Other" and "Unlabelled" are not offered, since they name no preference; the nodes below them are
  offered instead.
- Finer preferences count as more relevant than coarser ones, by the level of the node that was
  selected, those of one level in the model's order: it is given for one level at a time, and eq. 3
  may have to drop the least relevant.
- Options that are too many for a prompt go in batches; their selections are merged by rank.
- Options are selected by number. The reply can contain only the numbers of listed options;
  duplicates count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated

from pydantic import Field

from agents.af_irs.tree import Tree
from agents.core.ask import Ask, together
from agents.core.dialogue import Message
from agents.core.steps import Bound, ReplyModel, Step

_MOST = 10  # preferences that one reply selects


class _Selection(ReplyModel):
    numbers: Annotated[
        list[Annotated[int, Field(ge=1, le=999)]],
        Field(
            max_length=_MOST,
            description="Give the numbers, most relevant first; [] for none.",
        ),
    ]


EXTRACT = Step("extract", "extract", _Selection)


@dataclass
class Extraction:
    """One descent of a tree."""

    tree: Tree
    conversation: Sequence[Message]
    """The user's messages."""
    noun: str
    batch: int
    """How many options a prompt shows at most."""
    ask: Ask

    async def run(self) -> tuple[int, ...]:
        """The session preferences as they were selected, the most relevant first."""
        tree = self.tree
        found: list[int] = []
        selected = await self._select(self._choice(tree.roots))
        while selected:
            parents = {child: node for node in selected for child in self._finer(node)}
            finer = await self._select(list(parents))
            narrowed = {parents[node] for node in finer}
            found += [node for node in selected if node not in narrowed]
            selected = finer
        found.sort(key=lambda node: -tree.levels[node])  # stable: within a level the model's order
        return tuple(found)

    def _finer(self, node: int) -> list[int]:
        """What can be preferred below `node`."""
        return self._choice(self.tree.children[node])

    def _choice(self, nodes: Sequence[int]) -> list[int]:
        """What can be preferred among `nodes`, or below them as long as there is but one."""
        while len(nodes) == 1:
            nodes = self.tree.children[nodes[0]]
        return self.tree.offered(nodes)

    async def _select(self, options: Sequence[int]) -> list[int]:
        batches = [options[at : at + self.batch] for at in range(0, len(options), self.batch)]
        chosen = await together(self._select_in(batch) for batch in batches)
        ranks = zip_longest(*chosen)
        return [node for rank in ranks for node in rank if node is not None]

    async def _select_in(self, batch: Sequence[int]) -> list[int]:
        tree = self.tree
        reply = await self.ask(
            EXTRACT.bounded(numbers=Bound(min(_MOST, len(batch)), len(batch))),
            noun=self.noun,
            options=[tree.names[node] for node in batch],
            under=[" > ".join(tree.path(node)[:-1]) for node in batch],
            conversation=self.conversation,
        )
        return [batch[number - 1] for number in dict.fromkeys(reply.numbers)]
