"""How many tokens each local expert receives, for the distributions that measured MoE tables name.

"balanced" deals tokens round-robin; "power_law_A" draws every expert's popularity from a truncated power law of
exponent A and looks at the rank that got most, as the collectors of aiconfigurator do (collector/helper.py,
power_law_logits_v3, 2026-08): tables are of the heaviest rank.
"""

from functools import lru_cache

import numpy as np

from simulator.cost.kernel.sizes import Array
from simulator.errors import KernelError

_DRAWS = 24
_SEED = 20260821


@lru_cache(maxsize=4096)
def expert_loads(tokens: int, experts: int, top_k: int, ranks: int, distribution: str) -> Array:
    """[draws, local experts] tokens of the heaviest rank's experts, each row sorted, largest first.

    Deterministic: a fixed seed. Raises KernelError for an unknown distribution or ranks that do not divide experts.
    """
    if ranks < 1 or experts % ranks:
        raise KernelError(given=f"{experts} experts over {ranks} ranks", rule="ranks must divide experts")
    if distribution in ("balanced", "uniform"):
        return _balanced(tokens, experts, top_k, ranks)
    name, _, exponent = distribution.rpartition("_")
    try:
        alpha = float(exponent)
    except ValueError:
        alpha = float("nan")
    if name != "power_law" or not alpha > 0 or alpha == 1.0:
        raise KernelError(given=repr(distribution), rule='a load distribution is "balanced" or "power_law_A"')
    generator = np.random.default_rng(_SEED)
    return np.stack([_heaviest(tokens, experts, top_k, ranks, alpha, generator) for _ in range(_DRAWS)])


def _balanced(tokens: int, experts: int, top_k: int, ranks: int) -> Array:
    stride = -(-experts // top_k)
    token, choice = np.arange(tokens)[:, None], np.arange(top_k)[None, :]
    start = token if tokens >= stride else token * stride / tokens
    chosen = ((start + choice * stride).astype(np.int64)) % experts
    counts = np.bincount(chosen.ravel(), minlength=experts).astype(np.float64)
    return np.sort(counts[: experts // ranks])[::-1][None, :]


def _heaviest(tokens: int, experts: int, top_k: int, ranks: int, alpha: float, generator: np.random.Generator) -> Array:
    low, high = (1.0, tokens * 0.8) if tokens * top_k > experts else (0.01, 2.0)
    power = 1.0 - alpha
    uniform = generator.random(experts)
    popularity = ((high**power - low**power) * uniform + low**power) ** (1.0 / power)
    counts = np.round(popularity / popularity.sum() * tokens * top_k)
    missing = round(tokens * top_k - counts.sum())
    order = np.argsort(-counts)
    whole, rest = divmod(abs(missing), experts)
    share = np.full(experts, whole, dtype=np.float64)
    share[order[:rest]] += 1.0
    # An expert sees a token at most once.
    counts = np.clip(counts + np.sign(missing) * share, 0.0, tokens)
    by_rank = counts.reshape(ranks, -1)
    return np.sort(by_rank[by_rank.sum(axis=1).argmax()])[::-1]
