"""Every shipped model whose numbers are not refused has a miniature that the reference computes."""

import numpy as np
import pytest

from simulator.errors import NotBuiltError
from simulator.model.catalogue import find_model, list_models
from simulator.model.miniature import miniature
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import random_weights

MODELS = [find_model(name) for name in list_models()]
# Models of one family with the same layers have the same miniature.
DISTINCT = {(m.family, m.distinct_layers, m.tie_embeddings): m for m in MODELS}


@pytest.mark.parametrize("model", [m for m in DISTINCT.values() if not m.numbers_refused], ids=lambda m: m.name)
def test_a_shipped_model_is_computed(model) -> None:  # type: ignore[no-untyped-def]
    small = miniature(model)
    rng = np.random.default_rng(2)
    # The second prompt crosses the window and the chunk of a miniature.
    prompts = [rng.integers(0, small.vocab, n).tolist() for n in (3, 13)]
    reference = ReferenceModel(small, random_weights(small, 1))
    step = reference.forward(prompts)
    for layer in step.activations:
        assert 0.1 < np.std(layer["attn_out"]) < 5
        assert 0.1 < np.std(layer["mlp_out"]) < 5
        if "router_experts" in layer:
            assert len(np.unique(layer["router_experts"])) > 2
            assert np.all(np.ptp(layer["router_experts"], axis=0) > 0), "tokens choose alike"
    assert 0.5 < np.std(step.logits) < 5
    # Nearest rivals for the next token lie far apart against any rounding of float64.
    best = np.sort(step.logits, axis=1)
    assert np.min(best[:, -1] - best[:, -2]) > 1e-6


@pytest.mark.parametrize("model", [m for m in DISTINCT.values() if m.numbers_refused], ids=lambda m: m.name)
def test_a_refused_model_says_why(model) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotBuiltError, match=r"not computed|not built"):
        ReferenceModel(model, {})
