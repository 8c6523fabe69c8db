"""Planted bugs that the comparison with transformers must catch: an oracle that sees none of them is no oracle."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracle_cases import Expected, architecture, checkpoint, largest_error, load

from simulator.model.architecture import Architecture
from simulator.numeric.reference import ReferenceModel, attention, feed_forward, parts, rope
from simulator.numeric.weights import weights_from_state_dict

SEEN = 1e-6
"""A bug must move the logits by a thousand times the tolerance, relative to the largest."""


def each_layer(part: str, change: Callable[[Any], Any]) -> Callable[[Architecture], Architecture]:
    def planted(arch: Architecture) -> Architecture:
        layers = []
        for layer in arch.layers:
            try:
                layers.append(replace(layer, **{part: change(getattr(layer, part))}))
            except (TypeError, AttributeError):  # this layer has no such part: a dense layer has no router
                layers.append(layer)
        assert tuple(layers) != arch.layers
        return replace(arch, layers=tuple(layers))

    return planted


def attention_with(**change: Any) -> Callable[[Architecture], Architecture]:
    return each_layer("attention", lambda a: replace(a, **change))


def router_with(**change: Any) -> Callable[[Architecture], Architecture]:
    return each_layer("feed_forward", lambda moe: replace(moe, router=replace(moe.router, **change)))


def rope_with(**change: Any) -> Callable[[Architecture], Architecture]:
    return each_layer("attention", lambda a: replace(a, rope=replace(a.rope, **change)))


def scaling_with(**change: Any) -> Callable[[Architecture], Architecture]:
    def changed(a: Any) -> Any:
        return replace(a, rope=replace(a.rope, scaling=tuple({**dict(a.rope.scaling), **change}.items())))

    return each_layer("attention", changed)


IN_ARCHITECTURE: dict[str, tuple[str, Callable[[Architecture], Architecture]]] = {
    "rope pairs instead of halves": ("llama", rope_with(interleaved=True)),
    "rope halves instead of pairs": ("deepseek_v3", rope_with(interleaved=False)),
    "rope without llama3 scaling": ("llama", rope_with(scaling=())),
    "rope over the whole head": ("glm4_moe", rope_with(dim=8)),
    "rope of the wrong base": ("qwen3_moe", rope_with(theta=10000.0)),
    "YaRN bounds rounded": ("gpt_oss", scaling_with(truncate=True)),
    "YaRN without its factor on cosine and sine": ("qwen3", scaling_with(attention_factor=1.0)),
    "YaRN without mscale_all_dim": ("deepseek_v3", scaling_with(mscale_all_dim=0.0)),
    "softmax scale without YaRN's square": ("deepseek_v2", attention_with(scale=14**-0.5)),
    "a window one token wider": (
        "gpt_oss",
        each_layer("attention", lambda a: replace(a, window=a.window + 1) if a.window else a),
    ),
    "a chunk one token longer": (
        "llama4",
        each_layer("attention", lambda a: replace(a, chunk=a.chunk + 1) if a.chunk else a),
    ),
    "no attention sinks": ("gpt_oss", attention_with(sinks=False)),
    "no query and key norm": ("qwen3", attention_with(qk_norm="none")),
    "no norm after rotation": ("llama4", attention_with(qk_norm="none")),
    "no temperature on NoPE layers": ("llama4", attention_with(temperature_tuning=None)),
    "latent norms with the model's eps": ("glm4_moe_lite", attention_with(norm_eps=1e-5)),
    "no sliding window": ("mistral", attention_with(window=None)),
    "norms with the wrong eps": ("mixtral", lambda arch: replace(arch, norm_eps=1e-6)),
    "an unnormalised router": ("mixtral", router_with(normalize=False)),
    "a normalised router": ("qwen2_moe", router_with(normalize=True)),
    "softmax before top-k instead of after": ("gpt_oss", router_with(scoring="softmax", normalize=False)),
    "no routed scale": ("deepseek_v3", router_with(routed_scale=1.0)),
    "no groups": ("deepseek_v3", router_with(groups=1)),
    "groups by their best expert": ("deepseek_v3", router_with(group_score="max")),
    "groups by their two best experts": ("deepseek_v2", router_with(group_score="top2_sum")),
    "the weight on the expert's output": ("llama4", router_with(scale_input=False)),
    "one expert fewer": ("minimax_m2", each_layer("feed_forward", lambda moe: replace(moe, top_k=2))),
    "no shared expert": ("qwen2_moe", each_layer("feed_forward", lambda moe: replace(moe, shared_intermediate=0))),
    "an ungated shared expert": ("qwen2_moe", each_layer("feed_forward", lambda moe: replace(moe, shared_gate=False))),
    "SiLU instead of the clamped SwiGLU": (
        "gpt_oss",
        each_layer("feed_forward", lambda moe: replace(moe, activation="silu")),
    ),
    "exact GELU instead of its approximation": (
        "gpt2",
        each_layer("feed_forward", lambda mlp: replace(mlp, activation="gelu")),
    ),
    "RMS instead of layer norm": ("gpt2", lambda arch: replace(arch, norm="rms")),
}


def error(family: str, expected: Expected, arch: Architecture, change: Callable[[Any], Any] = lambda w: w) -> float:
    """Of the planted architecture, run with the true one's weights."""
    weights = weights_from_state_dict(architecture(family), checkpoint(expected.shapes))
    return largest_error(ReferenceModel(arch, change(weights)), expected)


@pytest.mark.parametrize("bug", IN_ARCHITECTURE)
def test_a_wrong_switch_is_caught(bug: str) -> None:
    family, plant = IN_ARCHITECTURE[bug]
    assert error(family, load(family), plant(architecture(family))) > SEEN


def _bias_steers_the_weight_too(router: Any, top_k: int, logits: Any, correction: Any) -> Any:
    chosen, _ = feed_forward_route(router, top_k, logits, correction)
    kept = (parts.sigmoid(logits) + correction)[chosen]
    return chosen, [float(w) for w in kept / kept.sum()]


feed_forward_route = feed_forward.route
IN_CODE: dict[str, tuple[str, Any, str, Any]] = {
    "no clamp": ("gpt_oss", parts, "SWIGLU_LIMIT", 1e9),
    "a plain sigmoid slope": ("gpt_oss", parts, "SWIGLU_ALPHA", 1.0),
    "the correction bias in the weight": ("minimax_m2", feed_forward, "route", _bias_steers_the_weight_too),
    "a query that does not see itself": (
        "qwen2",
        attention,
        "visible",
        lambda _, q, k: (k[None] < q[:, None]) | (k[None] == 0),
    ),
    "positions that start at one for queries only": (
        "deepseek_v3",
        attention,
        "rotate",
        lambda x, positions, r, longest: rope.rotate(x, positions + (x.shape[1] > 1), r, longest),
    ),
}


@pytest.mark.parametrize("bug", IN_CODE)
def test_a_wrong_line_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, module, name, planted = IN_CODE[bug]
    monkeypatch.setattr(module, name, planted)
    assert error(family, load(family), architecture(family)) > SEEN


def _swapped(weights: dict[str, Any], one: str, other: str) -> dict[str, Any]:
    names = {name: name.replace(one, other) if one in name else name.replace(other, one) for name in weights}
    return {name: weights[source] for name, source in names.items()}


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("llama", lambda w: _swapped(w, ".gate_proj", ".up_proj")),
        ("mixtral", lambda w: _swapped(w, ".gate_proj", ".up_proj")),
        ("gpt_oss", lambda w: _swapped(w, ".gate_proj", ".up_proj")),
        ("llama", lambda w: _swapped(w, ".k_proj", ".v_proj")),
        ("qwen3_moe", lambda w: {n: np.roll(a, 1, axis=0) if ".experts." in n else a for n, a in w.items()}),
    ],
)
def test_weights_in_the_wrong_place_are_caught(family: str, change: Callable[[Any], Any]) -> None:
    assert error(family, load(family), architecture(family), change) > SEEN
