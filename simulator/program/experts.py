"""How many tokens each expert is expected to see, and how many ranks a token visits."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.model.architecture import MixtureOfExperts
from simulator.parallel.layout import Layout
from simulator.program.ops import ExpertLoad
from simulator.program.sharding import expert_placement


def popularity(experts: int, skew: float) -> NDArray[np.float64]:
    """Part of the token-expert pairs that goes to each expert: a Zipf law, p_i ~ (i + 1) ** -skew.

    skew 0 is even. A token's top_k experts differ, so no expert gets more than 1 / top_k of the pairs;
    see `_capped`.
    """
    weights = np.arange(1, experts + 1, dtype=np.float64) ** -skew
    return np.asarray(weights / weights.sum())


_ORDER_SEED = 20261123


@lru_cache(maxsize=64)
def busyness_order(experts: int, layout: Layout) -> tuple[int, ...]:
    """Place of each expert in the order of popularity, 0 the busiest.

    Which experts are busy has nothing to do with the rank that holds them: without copies a fixed draw; with copies
    their own order, as the placement copies the first and deals the heaviest first.
    """
    if layout.redundant_experts:
        return tuple(range(experts))
    return tuple(int(place) for place in np.random.default_rng(_ORDER_SEED).permutation(experts))


def _capped(share: NDArray[np.float64], top_k: int) -> NDArray[np.float64]:
    """No expert above 1 / top_k: what is over goes to the others in proportion."""
    limit = 1.0 / top_k
    capped = share.copy()
    for _ in range(len(share)):
        over = capped > limit + 1e-12
        if not over.any():
            break
        free = ~over & (capped < limit)
        excess = float((capped[over] - limit).sum())
        capped[over] = limit
        if not free.any():
            break
        capped[free] += excess * capped[free] / capped[free].sum()
    return capped


@lru_cache(maxsize=1024)
def expert_load(moe: MixtureOfExperts, layout: Layout, tokens: float, skew: float) -> ExpertLoad:
    """Expected rows of each local expert on each ep rank when `tokens` are routed by the whole group."""
    ordered = _capped(popularity(moe.experts, skew), moe.top_k) * moe.top_k * tokens
    share = ordered[list(busyness_order(moe.experts, layout))]
    placement = expert_placement(moe.experts, layout)
    per_slot = share / placement.replicas(moe.experts)
    return ExpertLoad(tuple(tuple(float(per_slot[e]) for e in placement.local(rank)) for rank in range(layout.ep)))


_ROUNDS = 24
"""Of the fit of odds to inclusion probabilities: the rest is below 1e-4 for Zipf exponents up to 1."""


def _drawn(odds: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Sum over all choices of `count` experts of the product of their odds; odds: [..., experts] -> [...]."""
    sums = np.zeros((count + 1, *odds.shape[:-1]))
    sums[0] = 1.0
    for expert in range(odds.shape[-1]):
        sums[1:] = sums[1:] + odds[..., expert] * sums[:-1]
    return np.asarray(sums[count])


def _odds(inclusion: NDArray[np.float64], top_k: int) -> NDArray[np.float64]:
    """Odds with which drawing `top_k` different experts includes each as often as `inclusion` says.

    Conditional Poisson sampling, the design of largest entropy (Chen, Dempster and Liu, Biometrika 81 (1994)
    457-469); the odds are moved by the ratio of wanted to found odds of inclusion until they agree.
    """
    odds = np.ones_like(inclusion)
    if np.ptp(inclusion) < 1e-12:
        return odds
    wanted = np.minimum(inclusion, 1.0 - 1e-6)
    others = 1.0 - np.eye(len(odds))
    for _ in range(_ROUNDS):
        found = odds * _drawn(odds * others, top_k - 1) / _drawn(odds, top_k)
        odds = odds * wanted / (1.0 - wanted) * (1.0 - found) / found
    return odds


@lru_cache(maxsize=1024)
def visit_share(moe: MixtureOfExperts, layout: Layout, skew: float) -> tuple[float, ...]:
    """Expected probability that a token visits each ep rank at least once (it is sent there once).

    A token's experts are different ones, drawn so that each is included as often as its popularity says; a copied
    expert is met on each of its ranks equally often. Exact where experts are evenly busy.
    """
    ordered = np.minimum(_capped(popularity(moe.experts, skew), moe.top_k) * moe.top_k, 1.0)
    inclusion = ordered[list(busyness_order(moe.experts, layout))]
    placement = expert_placement(moe.experts, layout)
    odds, replicas = _odds(inclusion, moe.top_k), placement.replicas(moe.experts)
    elsewhere = np.ones((layout.ep, moe.experts))
    for rank in range(layout.ep):
        here = np.bincount(placement.local(rank), minlength=moe.experts)
        elsewhere[rank] -= here / replicas
    missed = _drawn(odds * elsewhere, moe.top_k) / _drawn(odds, moe.top_k)
    return tuple(float(part) for part in 1.0 - missed)
