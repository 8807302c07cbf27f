"""LatentCRS's equations in torch (Anonymous ACL submission, section 4.2), as pure functions.

Shapes: B examples (a user's history, words and next item), K intent anchors, N candidate items.
`s` (B, d_s) embeds histories, `x` (B, d_x) words, `m` (K, d_m) anchors, `v` (N, d_v) items.

Weights, by name (d is the inner width; the paper's symbol in brackets):

    history_weight (d, d_s), words_weight (d, d_x), ..._bias (d,): the projections of 4.2.1
    inner_weight (2d, 2d), inner_bias (2d,), outer_weight (d, 2d), outer_bias (d,): FFN
    anchor_weight (d, d_m) [W_m], intent_weight (d, d_m) [W_j], item_weight (d, d_v) [W_v]
    query_weight (d, d_s) [W_q], key_weight (d, d_m) [W_k], match_weight (d_m, d_v) [W_e]

The first three lines are the generative model, the last the inference model. Where the paper is
open or printed with a slip, docs/papers/latentcrs.md says what we read:

- (8) and (13) are minimised with a minus sign, which the paper leaves out.
- h in (8) is positive: sum_j f exp(g) by default (`exp`), or with softplus(g).
- g is eq. 6, or without history and words (`independent`), as appendix E.1 assumes.
- p(v | m_j, ...) is the softmax of g over the item and its negatives; with all other items as
  negatives it is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.latentcrs.settings import GForm, HForm
from agents.training.weights import Weights

GENERATIVE = (
    "history_weight",
    "history_bias",
    "words_weight",
    "words_bias",
    "inner_weight",
    "inner_bias",
    "outer_weight",
    "outer_bias",
    "anchor_weight",
    "intent_weight",
    "item_weight",
)
INFERENCE = ("query_weight", "key_weight", "match_weight")


class Candidates(NamedTuple):
    """The next items of a batch, and the items that they are compared with."""

    own: Tensor
    """(B, d_v): embeddings of the next items."""
    others: Tensor
    """(N, d_v): embeddings of the negatives, shared by the batch."""
    clash: Tensor
    """(B, N), bool: which negatives are an example's own next item; they do not count."""


class RelevanceScores(NamedTuple):
    """g of the next items (B, K) and of the negatives, (B, K, N) or (1, K, N)."""

    own: Tensor
    others: Tensor


def intent_logits(weights: Weights, s: Tensor, x: Tensor, m: Tensor) -> Tensor:
    """(B, K): FFN([S; x]) (W_m m_j)^T, the inside of eq. 5."""
    history = F.linear(s, weights["history_weight"], weights["history_bias"])
    words = F.linear(x, weights["words_weight"], weights["words_bias"])
    both = torch.cat([history, words], dim=-1)
    inner = F.relu(F.linear(both, weights["inner_weight"], weights["inner_bias"]))
    outer = F.linear(inner, weights["outer_weight"], weights["outer_bias"])
    return outer @ (m @ weights["anchor_weight"].T).T


def relevance_scores(
    weights: Weights, logits: Tensor, m: Tensor, given: Candidates, g: GForm
) -> RelevanceScores:
    """Eq. 6: (W_j m_j)(W_v v)^T, times the logits of eq. 5 unless `independent` (E.1)."""
    intents = m @ weights["intent_weight"].T
    own = (given.own @ weights["item_weight"].T) @ intents.T
    others = (intents @ (given.others @ weights["item_weight"].T).T)[None]
    if g == "independent":
        return RelevanceScores(own, others)
    return RelevanceScores(own * logits, others * logits[:, :, None])


def log_choice(g: RelevanceScores, clash: Tensor) -> Tensor:
    """(B, K): log(exp g(v) / Z) of eq. 7, an estimate of log p(v | m_j, S, x)."""
    rivals = g.others.masked_fill(clash[:, None, :], -torch.inf).logsumexp(dim=-1)
    return g.own - torch.logaddexp(g.own, rivals)


def info_nce(q: Tensor, choice: Tensor) -> Tensor:
    """Eq. 7, the mean over the batch; `choice` is `log_choice`."""
    return -(q * choice).sum(dim=-1).mean()


def log_h(log_p: Tensor, g: Tensor, h: HForm) -> Tensor:
    """log sum_j f_j exp(g_j) (or softplus): (B,) for g (B, K), (B, N) for (B, K, N).

    The paper has f g, whose logarithm need not exist, since g may be negative.
    """
    prior = log_p if g.dim() == 2 else log_p[:, :, None]
    part = g if h == "exp" else F.softplus(g).log()
    return (prior + part).logsumexp(dim=1)


def recommendation_loss(log_p: Tensor, g: RelevanceScores, clash: Tensor, h: HForm) -> Tensor:
    """Eq. 8 with its minus sign, the mean over the batch."""
    own = log_h(log_p, g.own, h)
    rivals = log_h(log_p, g.others, h).masked_fill(clash, -torch.inf).logsumexp(dim=-1)
    return -(own - torch.logaddexp(own, rivals)).mean()


def divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) over the last dimension, the mean over the batch. p need not be normalised."""
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()


def generative_loss(
    log_q: Tensor,
    log_p: Tensor,
    g: RelevanceScores,
    clash: Tensor,
    *,
    kl_weight: float,
    rec_weight: float,
    h: HForm,
) -> Tensor:
    """Eq. 9: infoNCE + lambda KL(q || p) + alpha_M L_rec."""
    loss = info_nce(log_q.exp(), log_choice(g, clash))
    loss = loss + kl_weight * divergence(log_q, log_p)
    return loss + rec_weight * recommendation_loss(log_p, g, clash, h) if rec_weight else loss


def log_inferred(weights: Weights, s: Tensor, m: Tensor) -> Tensor:
    """(B, K): the logarithm of eq. 10, q(m_j | S)."""
    queries = s @ weights["query_weight"].T
    keys = m @ weights["key_weight"].T
    return (queries @ keys.T / m.shape[1] ** 0.5).log_softmax(dim=-1)


def inference_elbo(log_q: Tensor, log_p: Tensor, choice: Tensor) -> Tensor:
    """Eq. 11: KL(q || p(m_j | S, x) p(v | m_j, S, x)), the mean over the batch: minus the ELBO."""
    return divergence(log_q, log_p + choice)


def inference_recommendation(
    weights: Weights, log_q: Tensor, m: Tensor, given: Candidates
) -> Tensor:
    """Eq. 12 and 13 with its minus sign, the mean over the batch."""
    r = log_q.exp() @ m
    matched = r @ weights["match_weight"]
    own = (matched * given.own).sum(dim=-1)
    others = matched @ given.others.T
    rivals = others.masked_fill(given.clash, -torch.inf).logsumexp(dim=-1)
    return -(own - torch.logaddexp(own, rivals)).mean()


def elbo(log_q: Tensor, log_p: Tensor, choice: Tensor) -> Tensor:
    """Eq. 4, the mean over the batch."""
    return (log_q.exp() * (choice + log_p - log_q)).sum(dim=-1).mean()


def predicted(log_p: Tensor, g: Tensor) -> Tensor:
    """(B, N): p(v | S, x) = sum_j p(m_j) softmax_v g_j(v), for g (B, K, N) or (1, K, N)."""
    return (log_p.exp()[:, :, None] * g.softmax(dim=-1)).sum(dim=1)
