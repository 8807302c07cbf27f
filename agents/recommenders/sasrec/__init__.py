"""SASRec: a causal transformer over a user's latest items that predicts the next one.

The model is that of Kang and McAuley (Self-Attentive Sequential Recommendation, ICDM 2018), with
the blocks as in their code and in that of Klenitskiy and Vasilev (Turning Dross Into Gold Loss,
RecSys 2023; arXiv 2309.07602), whose training this is, as in AF-IRS, section 5.1.5:

- **Loss**: cross-entropy over all items at every position (their SASRec+); where the catalogue has
  more than `full_softmax` items, over the next item and `negatives` others (their SASRec+ 3000).
  They draw those for each sequence, among items that it lacks; we draw them for each batch, among
  all, and leave out the positions' own next items, so that one product of matrices serves the
  batch.
- **Defaults** are those of their repository (antklen/sasrec-bert4rec-recsys23, SASRec.yaml):
  64 units, 2 blocks, 1 head, dropout 0.1, Adam with 1e-3, batches of 128, at most 100 epochs,
  patience 10, weights drawn from N(0, 0.02), validation on 10,000 users. `max_length` is 200, as
  they set for MovieLens; for Beauty and Steam they set 50, which few users there reach.
- **Early stopping**: after every epoch, NDCG@10 of each user's validation item in a full ranking,
  the user's training items left out. Training ends when `patience` epochs in a row were no better
  than the best before them, or after `max_epochs`; the weights are those of the best epoch.

The user embedding is the output at the last item, a score its product with the item's embedding,
which input and output share. A history without items has the zero vector, and all scores are 0.

Trained in torch (`pip install -e '.[train]'`), by default on one core, so that a seed gives the
same bits whatever else the machine has. Used with numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from agents.core.artifacts import Content, Progress, importing
from agents.core.items import TrainingData
from agents.recommenders._sequential import SASRecOptions, Sequential

__all__ = ["SASRec"]


class SASRec(Sequential):
    """A self-attentive sequential recommender."""

    version = 2

    @staticmethod
    def fit(
        options: SASRecOptions, data: TrainingData, seed: int, state: Content | None
    ) -> Iterator[Progress]:
        with importing(SASRec.packages, "the recommender 'sasrec'"):
            from agents.recommenders._sequential.training import train
        yield from train(options, data, seed, state)
