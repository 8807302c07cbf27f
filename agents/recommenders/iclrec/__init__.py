"""ICLRec: SASRec whose user representations are also drawn to the intents that k-means finds.

Chen et al., Intent Contrastive Learning for Sequential Recommendation (WWW 2022; arXiv
2202.02519). The encoder, its loss on the next item, validation and early stopping are those of
`sasrec`, and so is everything at use. What is added:

- **E-step**, before every epoch: the representation of each training sequence is the mean of the
  encoder's outputs over its positions, without dropout; k-means divides them into `intents`.
- **Intent contrast** (weight `intent_weight`, their lambda): two augmented views of a sequence are
  each drawn to the centroid of its intent, against the centroids of the other sequences in the
  batch. Sequences of the same intent are not negatives of each other (their FNM).
- **Sequence contrast** (weight `sequence_weight`, their beta): the two views are drawn to each
  other, against all other views of the batch.
- **Views**: crop, mask and reorder, one drawn for each view, with the shares of their code.

Similarity is the inner product, divided by `temperature`. Defaults are those of their repository
(salesforce/ICLRec), except that the mean over positions represents a sequence in both contrasts,
where theirs concatenates positions in the second; and the loss on the next item is our SASRec's
cross-entropy over all items, where theirs has one negative. The user embedding is `sasrec`'s, the
output at the last item.

Trained in torch, with the k-means of scikit-learn; used with numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field

from agents.core.artifacts import Content, Progress, importing
from agents.core.items import TrainingData
from agents.recommenders._sequential import SASRecOptions, Sequential

__all__ = ["ICLRec"]


class _Options(SASRecOptions):
    intents: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Clusters of user representations; fewer if there are fewer sequences."""
    intent_weight: Annotated[float, Field(ge=0)] = 0.1
    sequence_weight: Annotated[float, Field(ge=0)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """The share of a sequence that the view `crop` keeps, in one piece."""
    masked: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The share of items that the view `mask` hides."""
    reordered: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The share of a sequence that the view `reorder` shuffles, in one piece."""


class ICLRec(Sequential):
    """A self-attentive sequential recommender with intent contrastive learning."""

    Options = _Options
    version = 2
    packages: ClassVar[tuple[str, ...]] = ("torch", "sklearn")

    @staticmethod
    def fit(
        options: Any, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        with importing(ICLRec.packages, "the recommender 'iclrec'"):
            from agents.recommenders.iclrec.training import train
        yield from train(options, data, seed, state)
