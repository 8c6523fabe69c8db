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
    share = _capped(popularity(moe.experts, skew), moe.top_k) * moe.top_k * tokens
    placement = expert_placement(moe.experts, layout)
    per_slot = share / placement.replicas(moe.experts)
    return ExpertLoad(tuple(tuple(float(per_slot[e]) for e in placement.local(rank)) for rank in range(layout.ep)))


@lru_cache(maxsize=1024)
def visit_share(moe: MixtureOfExperts, layout: Layout, skew: float) -> tuple[float, ...]:
    """Expected probability that a token visits each ep rank at least once (it is sent there once).

    Experts are drawn without replacement; the chance of missing a rank is taken as the product over its
    experts of (1 - inclusion probability), exact to first order and within 2 % for top_k << experts.
    """
    inclusion = np.minimum(_capped(popularity(moe.experts, skew), moe.top_k) * moe.top_k, 1.0)
    placement = expert_placement(moe.experts, layout)
    per_slot = inclusion / placement.replicas(moe.experts)
    return tuple(1.0 - float(np.prod(1.0 - per_slot[list(placement.local(rank))])) for rank in range(layout.ep))
