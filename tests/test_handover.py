"""Prefill under one layout, decode under another: the cache arrives whole, and the tokens do not notice."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_architectures import gqa, model, same
from sharded import reference_steps
from strategies import Case, architectures, layouts, prompts

from simulator.engine.handover import _first_copies, piece_bytes
from simulator.model.architecture import Architecture, DenseMlp, GroupedQueryAttention, MixtureOfExperts
from simulator.model.kv_cache import layer_sequence_bytes
from simulator.numeric import handover
from simulator.numeric.batch import programs_of, works_of
from simulator.numeric.compare import Comparison
from simulator.numeric.generation import make_states, step_sequences
from simulator.numeric.handover import carry_out, plan
from simulator.numeric.rank import RankState
from simulator.numeric.run import run_step
from simulator.numeric.weights import random_weights
from simulator.parallel.layout import AXES, Layout
from simulator.program.legality import check_layout


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Case, Layout]:
    """A model and two layouts it can take: the prefill pool's, and one of another shape for decoding."""
    prefill = draw(layouts(8, layers=2))
    architecture = draw(architectures(prefill, layers=2))
    sizes = [n for n in (1, 2, 3, 4) if 12 % n == 0]
    decode = Layout(
        tp=draw(st.sampled_from([n for n in range(1, 7) if takes(architecture, Layout(tp=n))])),
        cp=draw(st.sampled_from([1, 1, 2])), dp_attention=draw(st.sampled_from(sizes[:3])), dp=draw(st.integers(1, 2)),
        pp=draw(st.integers(1, min(2, len(architecture.layers)))), rank_order=tuple(draw(st.permutations(AXES))),
    )  # fmt: skip
    fitted = [
        replace(decode, ep=ep, redundant_experts=copies)
        for ep in (decode.block, decode.block // 2 or 1, 1)
        for copies in range(ep)
        if decode.block % ep == 0 and takes(architecture, replace(decode, ep=ep, redundant_experts=copies))
    ]
    chosen = draw(st.sampled_from(fitted)) if fitted else replace(decode, dp_attention=1, cp=1)
    if not takes(architecture, chosen):
        chosen = Layout()
    if not any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in architecture.layers):
        prefill = replace(prefill, redundant_experts=0)
    return Case(architecture, prefill, draw(prompts(architecture.vocab))), chosen


def takes(architecture: Architecture, layout: Layout) -> bool:
    try:
        check_layout(architecture, layout)
    except handover.LayoutError:
        return False
    return True


def prefilled(case: Case, decode: Layout) -> SimpleNamespace:
    """Both pools after prefill and hand-over, with the reference beside them."""
    weights = random_weights(case.architecture, 5)
    reference = reference_steps(case.architecture, weights, case.prompts, 4)
    tokens = {i: list(prompt) for i, prompt in enumerate(case.prompts)}
    lengths = {i: len(prompt) for i, prompt in tokens.items()}
    sources = make_states(case.architecture, case.layout, weights)
    destinations = make_states(case.architecture, decode, weights)
    works = works_of(step_sequences(tokens, lengths), case.layout)
    for i, token in run_step(programs_of(case.architecture, case.layout, works), sources, tokens).items():
        tokens[i].append(token)
    pieces = plan(case.architecture, case.layout, decode, lengths)
    carry_out(pieces, sources, destinations)
    return SimpleNamespace(
        reference=reference, tokens=tokens, lengths=lengths, sources=sources, destinations=destinations, pieces=pieces
    )


def decoded_error(case: Case, decode: Layout) -> float:
    """Largest relative error of any probe in three decode steps after the hand-over; tokens must agree."""
    after, error = prefilled(case, decode), 0.0
    for step in after.reference[1:]:
        works = works_of(step_sequences(after.tokens, after.lengths), decode)
        programs = programs_of(case.architecture, decode, works)
        comparison = Comparison(decode, tuple(p.works for p in programs), step, tuple(after.tokens))
        sampled = run_step(programs, after.destinations, after.tokens, probe=comparison)
        assert sampled == dict(enumerate(step.next_tokens.tolist()))
        error = max(error, *comparison.errors.values())
        for i, token in sampled.items():
            after.tokens[i].append(token)
    return error


@settings(max_examples=40)
@given(pair=pairs())
def test_decoding_elsewhere_says_what_the_undivided_run_says(pair: tuple[Case, Layout]) -> None:
    assert decoded_error(*pair) < 1e-9


def rows(state: RankState) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    return {key: {"positions": cache.positions, **cache.rows} for key, cache in state.caches.items()}


@settings(max_examples=40)
@given(pair=pairs())
def test_every_rank_gets_exactly_the_cache_it_must_hold(pair: tuple[Case, Layout]) -> None:
    """What a rank of the decode layout, at cp = 1, would hold had it prefilled itself; of it its share over cp."""
    case, decode = pair
    found = prefilled(case, decode)
    alone = replace(decode, cp=1, ep=1, redundant_experts=0)
    assume(takes(case.architecture, alone))
    own = prefilled(Case(case.architecture, alone, case.prompts), Layout())
    for rank, state in enumerate(found.destinations):
        point = decode.mesh.coordinates(rank)
        twin = own.sources[alone.mesh.rank({**point, "cp": 0})]
        expected = rows(twin)
        got = rows(state)
        wanted = {key for key, value in expected.items() if (value["positions"] % decode.cp == point["cp"]).any()}
        assert set(got) == wanted
        for key, cache in got.items():
            order = np.argsort(expected[key]["positions"])
            mine = expected[key]["positions"][order] % decode.cp == point["cp"]
            for name, value in cache.items():
                np.testing.assert_allclose(value, expected[key][name][order][mine], rtol=1e-9, atol=1e-11)


@settings(max_examples=60)
@given(pair=pairs(), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_bytes_sent_are_the_cache_and_its_duplicates(pair: tuple[Case, Layout], lengths: list[int]) -> None:
    case, decode = pair
    architecture = case.architecture
    numbered = dict(enumerate(lengths))
    pieces = plan(architecture, case.layout, decode, numbered)
    first = _first_copies(pieces)
    sent = {id(p): piece_bytes(architecture, p, numbered[p.sequence]) for p in pieces}
    logical = sum(
        layer_sequence_bytes(layer.attention, architecture.quantization, length)
        for layer in architecture.layers
        for length in lengths
    )
    assert sum(size for key, size in sent.items() if key in first) == pytest.approx(logical)
    held = sum(sent.values())
    assert held == pytest.approx(
        sum(copies(architecture, decode, layer, n) for layer in architecture.layers for n in lengths)
    )


def copies(architecture: Architecture, decode: Layout, layer: object, length: int) -> float:
    """Bytes of a sequence's cache on all destination ranks together: KV heads past tp and latents are held twice."""
    attention = layer.attention  # type: ignore[attr-defined]
    whole = layer_sequence_bytes(attention, architecture.quantization, length)
    if isinstance(attention, GroupedQueryAttention):
        return whole * max(1, decode.tp // attention.kv_heads)
    return whole * decode.tp


@settings(max_examples=40)
@given(pair=pairs())
def test_pieces_are_not_sent_twice_to_one_rank(pair: tuple[Case, Layout]) -> None:
    case, decode = pair
    seen = set()
    for piece in plan(case.architecture, case.layout, decode, {i: len(p) for i, p in enumerate(case.prompts)}):
        for layer in piece.layers:
            for position in piece.positions:
                for head in piece.heads or (-1,):
                    item = (piece.destination, layer, piece.sequence, position, head)
                    assert item not in seen
                    seen.add(item)


# ---- planted ---------------------------------------------------------------------------------------------------


def wrong_heads(kv_heads: int, layout: Layout, rank: int) -> tuple[int, ...]:
    """The right number of heads, dealt round-robin."""
    count = len(TRUE_HEADS(kv_heads, layout, rank))
    mine = layout.mesh.coordinates(rank)["tp"]
    return tuple(sorted((mine + i * layout.tp) % kv_heads for i in range(count)))


def wrong_positions(length: int, layout: Layout, rank: int, *, after_prefill: bool) -> np.ndarray:
    """Contiguous halves where the prefill cut a zigzag."""
    if layout.cp == 1 or not after_prefill:
        return TRUE_POSITIONS(length, layout, rank, after_prefill=after_prefill)
    return np.array_split(np.arange(length), layout.cp)[layout.mesh.coordinates(rank)["cp"]]


TRUE_HEADS, TRUE_POSITIONS = handover.held_heads, handover._positions


@pytest.mark.parametrize(("name", "wrong"), [("held_heads", wrong_heads), ("_positions", wrong_positions)])
def test_planted_bug_is_caught(name: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = model("m", *same(gqa(heads=8, kv_heads=4), DenseMlp(16)))
    case = Case(architecture, Layout(tp=2, cp=2), ((3, 14, 15, 9, 26, 5, 35), (8, 9)))
    assert decoded_error(case, Layout(tp=4)) < 1e-9
    monkeypatch.setattr(handover, name, wrong)
    try:
        error = decoded_error(case, Layout(tp=4))
    except (AssertionError, IndexError, ValueError):
        return
    assert error > 1e-3
