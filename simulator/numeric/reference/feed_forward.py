"""Feed-forward blocks: dense, and mixture of experts token by token."""

from collections.abc import Callable

import numpy as np

from simulator.model.architecture import DenseMlp, FeedForward, MixtureOfExperts, Router
from simulator.numeric.reference.parts import Array, Weights, activation, gated, linear, sigmoid, softmax

Record = Callable[[str, Array], None]


def feed_forward(block: FeedForward, x: Array, weights: Weights, record: Record) -> Array:
    """Output [tokens, hidden] of the block for x [tokens, hidden]."""
    match block:
        case DenseMlp():
            return _dense(block, x, weights, "mlp")
        case MixtureOfExperts():
            return _experts(block, x, weights, record)


def _dense(block: DenseMlp, x: Array, weights: Weights, name: str) -> Array:
    up = linear(x, weights, f"{name}.up_proj")
    if block.gated:
        inner = gated(block.activation, linear(x, weights, f"{name}.gate_proj"), up)
    else:
        inner = activation(block.activation, up)
    return linear(inner, weights, f"{name}.down_proj")


def route(router: Router, top_k: int, logits: Array, correction: Array | None) -> tuple[list[int], list[float]]:
    """The experts one token goes to, best first, and their weights; logits: [experts].

    Ties go to the lower index. Sources: Switch and Mixtral (arXiv:2401.04088, section 2.1) for softmax;
    DeepSeek-V2 (arXiv:2405.04434, section 2.2.2) for the groups; DeepSeek-V3 (arXiv:2412.19437, equations
    13-16) for sigmoid scores and the bias that steers the choice but not the weight.
    """
    match router.scoring:
        case "softmax":
            scores = softmax(logits)
        case "sigmoid":
            scores = sigmoid(logits)
        case "softmax_topk":
            scores = logits
    choice = scores if correction is None else scores + correction
    chosen = _best(_within_groups(router, choice), top_k)
    kept = scores[chosen]
    if router.scoring == "softmax_topk":
        kept = softmax(kept)
    elif router.normalize:
        kept = kept / np.sum(kept)
    return chosen, [float(w) * router.routed_scale for w in kept]


def _best(scores: Array, count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:count]


def _within_groups(router: Router, choice: Array) -> Array:
    """Scores of the experts in the best groups, -inf elsewhere."""
    if router.groups == 1:
        return choice
    groups = np.split(choice, router.groups)
    counted = 1 if router.group_score == "max" else 2
    ranks = np.array([np.sum(np.sort(group)[-counted:]) for group in groups])
    kept = set(_best(ranks, router.groups_kept))
    return np.concatenate([group if g in kept else np.full_like(group, -np.inf) for g, group in enumerate(groups)])


def _expert(moe: MixtureOfExperts, x: Array, weights: Weights, expert: int) -> Array:
    def project(name: str, value: Array) -> Array:
        y: Array = weights[f"mlp.experts.{name}.weight"][expert] @ value
        return y + weights[f"mlp.experts.{name}.bias"][expert] if moe.bias else y

    inner = gated(moe.activation, project("gate_proj", x), project("up_proj", x))
    return project("down_proj", inner)


def _experts(moe: MixtureOfExperts, x: Array, weights: Weights, record: Record) -> Array:
    logits = linear(x, weights, "mlp.gate")
    correction = weights.get("mlp.gate.e_score_correction_bias")
    out = np.zeros_like(x)
    choices, shares = [], []
    for token in range(len(x)):
        chosen, kept = route(moe.router, moe.top_k, logits[token], correction)
        for expert, weight in zip(chosen, kept, strict=True):
            if moe.router.scale_input:
                out[token] += _expert(moe, x[token] * weight, weights, expert)
            else:
                out[token] += weight * _expert(moe, x[token], weights, expert)
        choices.append(chosen)
        shares.append(kept)
    record("router_logits", logits)
    record("router_experts", np.array(choices, dtype=np.float64))
    record("router_weights", np.array(shares))
    if moe.shared_intermediate:
        shared = _dense(DenseMlp(moe.shared_intermediate), x, weights, "mlp.shared_experts")
        if moe.shared_gate:
            shared = shared * sigmoid(linear(x, weights, "mlp.shared_expert_gate"))
        out = out + shared
    return out
