"""The reference's parts against their definitions and known values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.model.architecture import Rope, Router
from simulator.numeric.reference.feed_forward import route
from simulator.numeric.reference.parts import activation, gated, norm, sigmoid, softmax
from simulator.numeric.reference.rope import inverse_frequencies, rotate

LLAMA3 = (
    ("factor", 8.0),
    ("high_freq_factor", 4.0),
    ("low_freq_factor", 1.0),
    ("original_max_position_embeddings", 8192),
    ("rope_type", "llama3"),
)
YARN = (("factor", 40.0), ("original_max_position_embeddings", 4096), ("type", "yarn"))
ROPES = [
    Rope(10000.0, 8),
    Rope(10000.0, 6, interleaved=True),
    Rope(500000.0, 8, scaling=LLAMA3),
    Rope(10000.0, 8, scaling=(("factor", 4.0), ("type", "linear"))),
    Rope(10000.0, 8, interleaved=True, scaling=YARN),
]


@pytest.mark.parametrize("rope", ROPES)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 10_000))
def test_scores_depend_on_distance_alone(rope: Rope, one: int, other: int, shift: int) -> None:
    """Su et al. 2021, equation 11; dimensions beyond `dim` are left alone."""
    q, k = np.random.default_rng(1).standard_normal((2, 1, 1, 10))

    def score(at: int, to: int) -> float:
        turned = (rotate(x, np.array([float(p)]), rope, 1 << 17) for x, p in ((q, at), (k, to)))
        a, b = turned
        np.testing.assert_array_equal(a[..., rope.dim :], q[..., rope.dim :])
        return float(np.sum(a * b))

    assert score(one + shift, other + shift) == pytest.approx(score(one, other), abs=1e-9)


def test_frequencies_of_the_published_settings() -> None:
    """Llama 3.1 (128 dimensions, base 500000) and DeepSeek-V3 (64, base 10000, factor 40)."""
    plain, _ = inverse_frequencies(Rope(500000.0, 128), 131072)
    llama, factor = inverse_frequencies(Rope(500000.0, 128, scaling=LLAMA3), 131072)
    assert factor == 1.0
    wavelengths = 2 * math.pi / plain
    short, long = wavelengths < 8192 / 4, wavelengths > 8192
    # Pair i has the wavelength 2 pi 500000^(i / 64): 2048 lies at i = 28.2, 8192 at 34.98.
    assert (short.sum(), long.sum()) == (29, 64 - 35)
    np.testing.assert_array_equal(llama[short], plain[short])
    np.testing.assert_allclose(llama[long], plain[long] / 8, rtol=1e-15)
    between = llama[~short & ~long] / plain[~short & ~long]
    assert np.all((between > 1 / 8) & (between < 1) & (np.diff(between, prepend=1) < 0))

    plain, _ = inverse_frequencies(Rope(10000.0, 64), 163840)
    yarn, factor = inverse_frequencies(Rope(10000.0, 64, scaling=YARN), 163840)
    # beta_fast 32 and beta_slow 1 fall on dimensions 10 and 23 (deepseek-ai/DeepSeek-V3, inference/model.py).
    np.testing.assert_allclose(yarn[:11], plain[:11], rtol=1e-15)
    np.testing.assert_allclose(yarn[23:], plain[23:] / 40, rtol=1e-15)
    assert np.all(yarn[11:23] < plain[11:23])
    assert factor == pytest.approx(0.1 * math.log(40) + 1)


def test_known_values() -> None:
    one = np.array([1.0])
    # The standard normal distribution function at 1 is 0.8413447460685429.
    assert activation("gelu", one)[0] == pytest.approx(0.8413447460685429, rel=1e-14)
    assert activation("gelu_tanh", one)[0] == pytest.approx(0.8411919906082768, rel=1e-14)
    assert activation("silu", one)[0] == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-14)
    assert activation("relu2", np.array([-2.0, 3.0])).tolist() == [0.0, 9.0]
    with pytest.raises(ValueError, match="tanhshrink"):
        activation("tanhshrink", one)
    clamped = gated("clamped_swiglu", np.array([9.0, -9.0, 2.0]), np.array([8.0, -8.0, 0.5]))
    expected = [7 * sigmoid(np.array(1.702 * 7)) * 8, -9 * sigmoid(np.array(-9 * 1.702)) * -6]
    np.testing.assert_allclose(clamped[:2], expected, rtol=1e-14)
    assert softmax(np.array([[0.0, math.log(3), -math.inf]])).tolist() == [[0.25, 0.75, 0.0]]
    weights = {"n.weight": np.array([1.0, 2.0]), "n.bias": np.array([0.5, 0.0])}
    np.testing.assert_allclose(norm(np.array([3.0, 5.0]), weights, "n", 0.0, "layer"), [-0.5, 2.0])
    np.testing.assert_allclose(norm(np.array([3.0, 5.0]), weights, "n", 0.0), np.array([3, 10]) / math.sqrt(17))


logits = st.lists(st.floats(-8, 8), min_size=12, max_size=12).map(np.array)


@given(logits, st.sampled_from(["softmax", "sigmoid", "softmax_topk"]), st.integers(1, 6), st.integers(1, 3))
def test_routing(values: np.ndarray, scoring: str, top_k: int, kept: int) -> None:
    router = Router(scoring, groups=3, groups_kept=kept, group_score="max", routed_scale=2.5)  # type: ignore[arg-type]
    top_k = min(top_k, 4 * kept)
    chosen, weights = route(router, top_k, values, None)
    assert len(set(chosen)) == len(weights) == top_k
    assert len({e // 4 for e in chosen}) <= kept
    assert sum(weights) == pytest.approx(2.5)
    assert weights == sorted(weights, reverse=True)
    scores = {"softmax": softmax, "sigmoid": sigmoid, "softmax_topk": np.array}[scoring](values)
    groups = {e // 4 for e in sorted(range(12), key=lambda e: -scores[e])[:1]} | {e // 4 for e in chosen}
    left_out = [scores[e] for e in range(12) if e // 4 in groups and e not in chosen]
    assert not left_out or max(left_out) <= min(scores[e] for e in chosen) or len(groups) < kept


def test_a_correction_steers_the_choice_and_not_the_weight_and_ties_go_low() -> None:
    router = Router("sigmoid", normalize=False, correction_bias=True)
    values = np.array([2.0, 1.0, 0.0, -1.0])
    assert route(router, 2, values, np.zeros(4))[0] == [0, 1]
    chosen, weights = route(router, 2, values, np.array([0.0, 0.0, 0.0, 5.0]))
    assert chosen == [3, 0]
    np.testing.assert_allclose(weights, sigmoid(np.array([-1.0, 2.0])))
    assert route(Router(), 2, np.zeros(4), None)[0] == [0, 1]
