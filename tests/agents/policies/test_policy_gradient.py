"""The policy gradient (RSO eq. 7 and 8) against exact objectives and finite differences."""

from itertools import product

import pytest
import torch

from agents.policies.core.policy_gradient import of_dialogue, returns, whitened

BETA = 0.3


def expected_gradient(weights, rewards, horizon, gamma):
    """What the loss gives on average, over all action sequences by their probability."""
    for weight in weights.values():
        weight.grad = None
    for actions in product(range(2), repeat=horizon):
        logits = torch.stack([weights[actions[:turn]] for turn in range(horizon)])
        chance = torch.ones((), dtype=torch.float64)
        for turn in range(horizon):
            chance = chance * torch.softmax(logits[turn], dim=0)[actions[turn]]
        worth = returns([rewards(actions[: t + 1]) for t in range(horizon)], gamma)
        # With gamma below 1, eq. 7 leaves gamma^t out of the gradient of turn t, as is usual.
        worth = [gamma**t * value for t, value in enumerate(worth)]
        loss, _ = of_dialogue(list(zip(actions, worth, strict=True)), logits, BETA)
        (-loss * chance.detach()).backward()
    return {state: weight.grad.clone() for state, weight in weights.items()}


def gain_only(weights, rewards, horizon, gamma, step=1e-5):
    """Finite differences of the exact expected return alone."""

    def value():
        total = 0.0
        for actions in product(range(2), repeat=horizon):
            chance = 1.0
            for turn in range(horizon):
                chance *= torch.softmax(weights[actions[:turn]], dim=0)[actions[turn]].item()
            total += chance * sum(gamma**t * rewards(actions[: t + 1]) for t in range(horizon))
        return total

    found = {}
    with torch.no_grad():
        for state, weight in weights.items():
            found[state] = torch.zeros(2, dtype=torch.float64)
            for place in range(2):
                weight[place] += step
                above = value()
                weight[place] -= 2 * step
                found[state][place] = (above - value()) / (2 * step)
                weight[place] += step
    return found


def entropy_only(weights, horizon, step=1e-5):
    """Finite differences of each state's entropy, weighed by how often the state occurs."""
    found = {}
    for state, weight in weights.items():
        chance = 1.0
        for turn in range(len(state)):
            chance *= torch.softmax(weights[state[:turn]], dim=0)[state[turn]].item()

        def entropy(weight=weight):
            logs = torch.log_softmax(weight, dim=0)
            return -(logs.exp() * logs).sum().item()

        found[state] = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for place in range(2):
                weight[place] += step
                above = entropy()
                weight[place] -= 2 * step
                found[state][place] = chance / horizon * (above - entropy()) / (2 * step)
                weight[place] += step
    return found


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize(
    ("horizon", "rewards"),
    [
        (1, lambda past: (0.2, 0.9)[past[-1]]),  # a bandit with two arms
        (3, lambda past: 0.1 + 0.3 * past[-1] * (1 + (len(past) > 1 and past[-2] == 0))),
    ],
)
def test_the_mean_gradient_is_that_of_the_exact_objective(horizon, rewards, gamma):
    torch.manual_seed(horizon)
    states = [past for turn in range(horizon) for past in product(range(2), repeat=turn)]
    weights = {s: torch.randn(2, dtype=torch.float64, requires_grad=True) for s in states}
    found = expected_gradient(weights, rewards, horizon, gamma)
    gain, entropy = gain_only(weights, rewards, horizon, gamma), entropy_only(weights, horizon)
    for state in states:
        wanted = gain[state] + BETA * entropy[state]
        assert torch.allclose(found[state], wanted, atol=1e-8), state
        assert entropy[state].abs().max() > 1e-4 and gain[state].abs().max() > 1e-4


def test_descending_on_the_loss_raises_reward_and_entropy():
    """Eq. 7 as it is printed would lower both."""
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    of_dialogue([(1, 1.0)], logits, 0.0)[0].backward()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]
    logits.grad = None
    of_dialogue([(1, 0.0)], logits, 1.0)[0].backward()
    assert logits.grad[0, 1] < 0 < logits.grad[0, 0]


def test_returns_are_discounted_and_a_missing_verdict_adds_nothing():
    assert returns([1.0, None, 0.5], 0.5) == [1.125, 0.25, 0.5]
    assert returns([], 0.9) == []


def test_whitened_returns_have_mean_0_and_deviation_1():
    found = torch.tensor([v for row in whitened([[1.0, 2.0], [6.0]]) for v in row])
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert whitened([[0.7]]) == [[0.0]]
