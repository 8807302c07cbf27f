"""The entropy-regularised policy gradient of RSO (eq. 7 and 8), in torch.

Equation 7 is printed with one sign for both terms, reward and entropy, under descent (theta minus
alpha times their gradient), which would minimise both. The text says that both are maximised, and
so does this: it descends on

    - sum_t log p(h_t | s_t) R_t  -  beta / T sum_t H(p(. | s_t))

for each dialogue, and on the mean of that over the dialogues of an update. R_t is the discounted
sum of the rewards from t on (eq. 8). A turn without a verdict adds nothing to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def returns(rewards: Sequence[float | None], gamma: float) -> list[float]:
    """Eq. 8: R_t = sum over i of gamma^i r_(t+i)."""
    found, after = [], 0.0
    for reward in reversed(rewards):
        after = (reward or 0.0) + gamma * after
        found.append(after)
    return found[::-1]


def whitened(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """With mean 0 and standard deviation 1 over all turns of an update, as the released code has
    returns."""
    every = torch.tensor([value for row in values for value in row], dtype=torch.float64)
    mean, spread = every.mean().item(), every.std(correction=0).item()
    return [[(value - mean) / (spread + 1e-8) for value in row] for row in values]


def of_dialogue(
    steps: Sequence[tuple[int, float]], logits: Tensor, beta: float
) -> tuple[Tensor, list[float]]:
    """The loss of one dialogue, and the entropy of each turn."""
    logs = torch.log_softmax(logits, dim=-1)
    taken = torch.tensor([place for place, _ in steps], device=logits.device)
    worth = torch.tensor([value for _, value in steps], dtype=logs.dtype, device=logits.device)
    gained = (logs.gather(1, taken[:, None])[:, 0] * worth).sum()
    entropy = -(logs.exp() * logs).sum(dim=-1)
    return -gained - beta * entropy.mean(), entropy.detach().tolist()


def accumulate(
    rollouts: Sequence[Sequence[tuple[int, float]]],
    states: Sequence[Sequence[str]],
    logits: Callable[[Sequence[str]], Tensor],
    beta: float,
) -> tuple[float, float]:
    """Adds the gradient of an update, a dialogue at a time, which bounds memory. The loss, and the
    mean entropy of a turn in nats."""
    loss, entropies = 0.0, []
    for steps, texts in zip(rollouts, states, strict=True):
        one, entropy = of_dialogue(steps, logits(texts), beta)
        (one / len(rollouts)).backward()
        loss += one.item() / len(rollouts)
        entropies += entropy
    return loss, sum(entropies) / len(entropies)
