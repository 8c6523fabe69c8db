"""Sharded equals unsharded, for arbitrary small architectures under every kind of legal layout."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_architectures import MINIATURES
from sharded import run
from strategies import Case, cases

from simulator.collectives.build import algorithms, build
from simulator.collectives.schedule import Nodes, Schedule
from simulator.errors import ScheduleError
from simulator.numeric.generation import generate
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.run import Pick
from simulator.numeric.weights import random_weights
from simulator.parallel.layout import Layout
from simulator.program.legality import check_layout
from simulator.program.ops import Collective

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
