"""Sharded equals unsharded, for arbitrary small architectures under every kind of legal layout."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from reference_architectures import MINIATURES
from sharded import run, run_on
from strategies import Case, cases

from simulator.model.architecture import MixtureOfExperts
from simulator.numeric.generation import generate
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import random_weights
from simulator.parallel.layout import Layout

TOLERANCE = 1e-9


@settings(max_examples=120)
@given(case=cases())
def test_every_tensor_and_every_token_agree(case: Case) -> None:
    outcome = run(case)
    assert outcome.sharded == outcome.reference
    assert outcome.error < TOLERANCE


@settings(max_examples=15)
@given(case=cases())
def test_generate_says_what_the_reference_says(case: Case) -> None:
    weights = random_weights(case.architecture, 9)
    expected = ReferenceModel(case.architecture, weights).generate(case.prompts, 4)
    assert generate(case.architecture, case.layout, weights, case.prompts, 4) == expected


LAYOUTS = (
    Layout(tp=2, sequence_parallel=True, pp=2, micro_batches=2),
    Layout(cp=2, dp=2),
    Layout(dp_attention=2, tp=2, ep=2, micro_batches=2),
    Layout(cp=2, tp=2, ep=2, sequence_parallel=True, rank_order=("tp", "pp", "dp", "cp", "dp_attention")),
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=("tp and pp", "cp and dp", "dp_attention and ep", "cp, tp and ep"))
@pytest.mark.parametrize("family", MINIATURES)
def test_real_families_agree(family: str, layout: Layout) -> None:
    architecture = MINIATURES[family]
    experts = {
        x.experts for x in (layer.feed_forward for layer in architecture.layers) if isinstance(x, MixtureOfExperts)
    }
    if not experts:
        layout = replace(layout, ep=1)
    elif layout.ep > 1:
        layout = replace(layout, redundant_experts=max(experts) % 2 + 2)
    outcome = run_on(architecture, layout, ((3, 14, 15, 9, 26, 5, 35), (8, 9), (7, 33, 23, 46)), 3)
    assert outcome.sharded == outcome.reference
    assert outcome.error < TOLERANCE
