"""LatentCRS's equations against plain numpy, their gradients, and the ELBO under exact EM."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from agents.latentcrs import losses
from agents.latentcrs.losses import GENERATIVE, INFERENCE, Candidates
from agents.latentcrs.settings import GForm

B, K, N, D_S, D_X, D_V, D = 3, 4, 6, 5, 7, 5, 4
D_M = D_S
SHAPES = {
    "history_weight": (D, D_S),
    "history_bias": (D,),
    "words_weight": (D, D_X),
    "words_bias": (D,),
    "inner_weight": (2 * D, 2 * D),
    "inner_bias": (2 * D,),
    "outer_weight": (D, 2 * D),
    "outer_bias": (D,),
    "anchor_weight": (D, D_M),
    "intent_weight": (D, D_M),
    "item_weight": (D, D_V),
    "query_weight": (D, D_S),
    "key_weight": (D, D_M),
    "match_weight": (D_M, D_V),
}


class Example:
    """A small batch, once in numpy and once in torch (float64). Item 2 is a next item twice."""

    def __init__(self, seed=0, scale=0.7):
        rng = np.random.default_rng(seed)
        self.w = {name: rng.normal(0, scale, shape) for name, shape in SHAPES.items()}
        self.s, self.x = rng.normal(size=(B, D_S)), rng.normal(size=(B, D_X))
        self.m, self.v = rng.normal(size=(K, D_M)), rng.normal(size=(N, D_V))
        self.next = np.array([2, 5, 2])
        self.tensors = {name: torch.tensor(w, requires_grad=True) for name, w in self.w.items()}
        self.given = Candidates(
            torch.tensor(self.v[self.next]),
            torch.tensor(self.v),
            torch.arange(N)[None] == torch.tensor(self.next)[:, None],
        )

    # In numpy, example by example and intent by intent.

    def logit(self, u, j):
        w = self.w
        history = w["history_weight"] @ self.s[u] + w["history_bias"]
        words = w["words_weight"] @ self.x[u] + w["words_bias"]
        both = np.concatenate([history, words])
        inner = np.maximum(w["inner_weight"] @ both + w["inner_bias"], 0)
        ffn = w["outer_weight"] @ inner + w["outer_bias"]
        return ffn @ (w["anchor_weight"] @ self.m[j])

    def f(self, u):
        values = np.exp([self.logit(u, j) for j in range(K)])
        return values / values.sum()

    def g(self, u, j, v, form="eq6"):
        product = (self.w["intent_weight"] @ self.m[j]) @ (self.w["item_weight"] @ self.v[v])
        return product * self.logit(u, j) if form == "eq6" else product

    def q(self, u):
        queries = self.w["query_weight"] @ self.s[u]
        values = [queries @ (self.w["key_weight"] @ self.m[j]) / D_M**0.5 for j in range(K)]
        return np.exp(values) / np.exp(values).sum()

    def choice(self, u, j, form="eq6"):
        """log p(v | m_j), all other items being negatives."""
        scores = np.exp([self.g(u, j, v, form) for v in range(N)])
        return np.log(scores[self.next[u]] / scores.sum())

    # In torch.

    def parts(self, form: GForm = "eq6"):
        s, x, m = (torch.tensor(a) for a in (self.s, self.x, self.m))
        logits = losses.intent_logits(self.tensors, s, x, m)
        g = losses.relevance_scores(self.tensors, logits, m, self.given, form)
        log_q = losses.log_inferred(self.tensors, s, m)
        return logits.log_softmax(dim=-1), g, log_q, m


def close(found, expected):
    assert found.detach().numpy() == pytest.approx(np.asarray(expected), rel=1e-9, abs=1e-11)


def test_eq_5_is_the_softmax_of_the_network_and_the_anchors():
    one = Example()
    log_p, *_ = one.parts()
    close(log_p.exp(), [one.f(u) for u in range(B)])


@pytest.mark.parametrize("form", ["eq6", "independent"])
def test_eq_6_or_without_history_and_words(form):
    one = Example()
    _, g, _, _ = one.parts(form)
    expected = np.array(
        [[[one.g(u, j, v, form) for v in range(N)] for j in range(K)] for u in range(B)]
    )
    close(g.others.expand(B, K, N), expected)
    close(g.own, [expected[u, :, one.next[u]] for u in range(B)])


@pytest.mark.parametrize("form", ["eq6", "independent"])
def test_eq_7_info_nce(form):
    one = Example()
    _, g, log_q, _ = one.parts(form)
    expected = -np.mean(
        [sum(one.q(u)[j] * one.choice(u, j, form) for j in range(K)) for u in range(B)]
    )
    close(losses.info_nce(log_q.exp(), losses.log_choice(g, one.given.clash)), expected)


@pytest.mark.parametrize("h", ["exp", "softplus"])
def test_eq_8_the_recommendation_loss(h):
    one = Example()
    log_p, g, _, _ = one.parts()
    positive = np.exp if h == "exp" else lambda value: np.log1p(np.exp(value))

    def value(u, v):
        return sum(one.f(u)[j] * positive(one.g(u, j, v)) for j in range(K))

    expected = -np.mean(
        [np.log(value(u, one.next[u]) / sum(value(u, v) for v in range(N))) for u in range(B)]
    )
    close(losses.recommendation_loss(log_p, g, one.given.clash, h), expected)


def test_eq_9_adds_them_with_their_weights():
    one = Example()
    log_p, g, log_q, _ = one.parts()
    kl = np.mean([np.sum(one.q(u) * np.log(one.q(u) / one.f(u))) for u in range(B)])
    clash = one.given.clash
    whole = losses.generative_loss(log_q, log_p, g, clash, kl_weight=0.3, rec_weight=0.6, h="exp")
    nce = losses.info_nce(log_q.exp(), losses.log_choice(g, clash)).item()
    rec = losses.recommendation_loss(log_p, g, clash, "exp").item()
    close(whole, nce + 0.3 * kl + 0.6 * rec)


def test_eq_10_is_the_softmax_of_scaled_products():
    one = Example()
    close(one.parts()[2].exp(), [one.q(u) for u in range(B)])


def test_eq_11_is_a_divergence_and_minus_eq_4():
    one = Example()
    log_p, g, log_q, _ = one.parts()
    choice = losses.log_choice(g, one.given.clash)
    expected = np.mean(
        [
            sum(
                one.q(u)[j] * (np.log(one.q(u)[j]) - np.log(one.f(u)[j]) - one.choice(u, j))
                for j in range(K)
            )
            for u in range(B)
        ]
    )
    close(losses.inference_elbo(log_q, log_p, choice), expected)
    close(losses.elbo(log_q, log_p, choice), -expected)
    # With lambda 1 and no auxiliary loss, eq. 9 is minus the ELBO too.
    clash = one.given.clash
    m_step = losses.generative_loss(log_q, log_p, g, clash, kl_weight=1, rec_weight=0, h="exp")
    close(m_step, expected)


def test_the_elbo_is_the_log_likelihood_at_the_posterior_and_below_it_elsewhere():
    one = Example()
    log_p, g, log_q, _ = one.parts()
    choice = losses.log_choice(g, one.given.clash)
    joint = log_p + choice
    likelihood = joint.logsumexp(dim=-1).mean()
    posterior = joint.log_softmax(dim=-1)
    close(losses.elbo(posterior, log_p, choice), likelihood.item())
    assert losses.elbo(log_q, log_p, choice) < likelihood
    every = losses.predicted(log_p, g.others)
    own = every[torch.arange(B), torch.tensor(one.next)]
    close(own.log().mean(), likelihood.item())
    close(every.sum(dim=-1), np.ones(B))


def test_eq_12_and_13_the_recommendation_loss_of_the_inference_model():
    one = Example()
    _, _, log_q, m = one.parts()
    expected = 0.0
    for u in range(B):
        r = sum(one.q(u)[j] * one.m[j] for j in range(K))
        scores = np.exp([r @ one.w["match_weight"] @ one.v[v] for v in range(N)])
        expected -= np.log(scores[one.next[u]] / scores.sum()) / B
    close(losses.inference_recommendation(one.tensors, log_q, m, one.given), expected)


def test_sampled_negatives_count_once_each_and_never_the_next_item():
    one = Example()
    drawn = [2, 4]  # 2 is the next item of two of the three
    given = Candidates(one.given.own, one.given.others[drawn], one.given.clash[:, drawn])
    s, x, m = (torch.tensor(a) for a in (one.s, one.x, one.m))
    logits = losses.intent_logits(one.tensors, s, x, m)
    g = losses.relevance_scores(one.tensors, logits, m, given, "eq6")
    for u in range(B):
        rivals = {int(one.next[u]), *drawn}
        for j in range(K):
            scores = {v: np.exp(one.g(u, j, v)) for v in rivals}
            expected = np.log(scores[one.next[u]] / sum(scores.values()))
            close(losses.log_choice(g, given.clash)[u, j], expected)


@pytest.mark.parametrize("form", ["eq6", "independent"])
def test_gradients_are_those_of_finite_differences(form):
    one = Example(seed=1, scale=0.4)

    def losses_of():
        log_p, g, log_q, m = one.parts(form)
        clash = one.given.clash
        choice = losses.log_choice(g, clash)
        m_loss = losses.generative_loss(
            log_q, log_p, g, clash, kl_weight=0.5, rec_weight=0.7, h="exp"
        )
        soft = losses.recommendation_loss(log_p, g, clash, "softplus")
        e_loss = losses.inference_elbo(log_q, log_p, choice)
        return (
            m_loss
            + soft
            + e_loss
            + losses.inference_recommendation(one.tensors, log_q, m, one.given)
        )

    losses_of().backward()
    step = 1e-6
    rng = np.random.default_rng(0)
    for name, weight in one.tensors.items():
        assert weight.grad is not None, name
        for _ in range(3):
            place = tuple(rng.integers(size) for size in weight.shape)
            with torch.no_grad():
                weight[place] += step
                above = losses_of().item()
                weight[place] -= 2 * step
                below = losses_of().item()
                weight[place] += step
            slope = (above - below) / (2 * step)
            assert weight.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_the_elbo_does_not_fall_when_each_step_is_solved():
    """Lambda 1, no auxiliary losses, exact softmax, each step warm-started: coordinate ascent.

    A step must have a maximum to be solved. So every user chooses every item, some twice, or the
    ELBO would approach 0 while the weights grow; and p(v | m) is that of appendix E.1, since
    history and words in g let the weights grow as well.
    """
    users, items, intents, width, given, tolerance = 3, 4, 3, 3, 4, 1e-6
    rng = np.random.default_rng(0)
    s, x, m, v = (torch.tensor(rng.normal(size=(n, given))) for n in (users, users, intents, items))
    shapes = {name: (width, given) for name in SHAPES if name.endswith("_weight")}
    shapes |= {name: (width,) for name in SHAPES if name.endswith("_bias")}
    shapes |= {"inner_weight": (2 * width,) * 2, "inner_bias": (2 * width,)}
    shapes["outer_weight"] = (width, 2 * width)
    weights = {
        n: torch.tensor(rng.normal(0, 0.5, d), requires_grad=True) for n, d in shapes.items()
    }
    who = torch.arange(users).repeat_interleave(items + 2)
    next_items = [np.concatenate([np.arange(items), rng.integers(items, size=2)]) for _ in s]
    own = torch.tensor(np.concatenate(next_items))
    all_items = Candidates(v[own], v, torch.arange(items)[None] == own[:, None])

    def value():
        logits = losses.intent_logits(weights, s[who], x[who], m)
        g = losses.relevance_scores(weights, logits, m, all_items, "independent")
        log_q = losses.log_inferred(weights, s[who], m)
        choice = losses.log_choice(g, all_items.clash)
        return losses.elbo(log_q, logits.log_softmax(dim=-1), choice)

    found = [value().item()]
    for step in range(6):
        chosen = [weights[name] for name in (GENERATIVE if step % 2 else INFERENCE[:2])]
        solver = torch.optim.LBFGS(
            chosen,
            max_iter=1000,
            tolerance_grad=tolerance,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure(solver=solver):
            solver.zero_grad()
            loss = -value()
            loss.backward()
            return loss

        solver.step(closure)
        closure()
        assert max(weight.grad.abs().max() for weight in chosen) <= tolerance, step
        found.append(value().item())
    assert all(after >= before - 1e-6 for before, after in pairwise(found))
    assert found[2] > found[1] > found[0]
