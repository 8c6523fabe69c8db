"""One collective alone takes the closed form's time: round by round, as flows, whatever the algorithm.

A library cuts messages finer and runs more channels than the schedule that moves the numbers, so a run of the bare
rounds would be slower (trees and in-switch reduction up to 2.6 times): `meeting.steps_of` fits the rounds to the closed
form, and the tests below see to it that it has something to fit.
"""

import pytest
import simpy
from deployments import cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.collectives.schedule import Kind
from simulator.engine import meeting
from simulator.engine.communicator import Communicator
from simulator.engine.flows import FlowNetwork
from simulator.engine.links import Links
from simulator.engine.meeting import Meeting, Mode
from simulator.program.ops import Collective

SIZES = (2e4, 3e6, 1e8)
SWITCHED = [("dgx_h100", 1, 8), ("dgx_h100", 1, 3), ("dgx_a100", 1, 8), ("dgx_h100", 2, 16), ("hgx_h800", 4, 32)]
KINDS: tuple[Kind, ...] = ("all_reduce", "all_gather", "reduce_scatter")


def alone(
    mode: Mode, place: tuple[str, int, int], kind: Kind, size: float, algorithm: str = "",
    share: tuple[float, ...] = (), back: bool = False,
) -> tuple[float, Links]:  # fmt: skip
    """Seconds of one collective on an idle cluster, and its links."""
    name, nodes, ranks = place
    where, gpus = cluster(name, nodes), tuple(range(ranks))
    env, links = simpy.Environment(), Links(where)
    comm = Communicator(where, {kind: algorithm} if algorithm else {})
    op = Collective(name="c", inputs=(), outputs=(), kind=kind, over=("tp",), bytes=size, share=share, back=back)  # type: ignore[arg-type]
    it = Meeting(env, op, gpus, gpus)
    it.arrived = dict.fromkeys(gpus)
    it.run(comm, links, mode, FlowNetwork(env, where, links) if mode == "flow" else None)
    env.run(it.done)
    return env.now, links


ALGORITHMS = [
    (("dgx_h100", 1, 8), "all_reduce", ("ring", "tree", "nvls", "one_shot", "two_shot")),
    (("dgx_h100", 1, 3), "all_reduce", ("ring", "tree")),
    (("dgx_h100", 2, 16), "all_reduce", ("ring", "tree", "nvls_tree", "hierarchical", "halving_doubling")),
    (("hgx_h800", 4, 32), "all_reduce", ("ring", "tree", "nvls_tree")),
    (("mi300x", 1, 8), "all_reduce", ("ring", "tree", "one_shot", "two_shot")),
    (("l40s_pcie", 1, 4), "all_reduce", ("ring", "tree", "one_shot", "two_shot")),
    (("dgx_h100", 1, 8), "all_gather", ("ring", "nvls", "direct", "pat")),
    (("dgx_a100", 1, 8), "reduce_scatter", ("ring", "direct", "pat")),
    (("hgx_h800", 4, 32), "all_gather", ("ring", "hierarchical", "pat")),
    (("dgx_h100", 1, 8), "all_to_all", ("pairwise",)),
    (("dgx_h100", 2, 16), "all_to_all", ("pairwise", "two_level")),
    (("hgx_h800", 4, 32), "all_to_all", ("pairwise", "two_level")),
]
CASES = [(place, kind, algorithm) for place, kind, names in ALGORITHMS for algorithm in names]


@settings(max_examples=60)
@given(st.sampled_from(CASES), st.floats(1.0, 2e9))
def test_every_algorithm_agrees_round_by_round(case: tuple[tuple[str, int, int], Kind, str], size: float) -> None:
    place, kind, algorithm = case
    closed, stepwise = (alone(mode, place, kind, size, algorithm)[0] for mode in ("closed_form", "stepwise"))
    assert stepwise == pytest.approx(closed, rel=1e-6)


@pytest.mark.parametrize("algorithm", ["tree", "nvls"])
def test_bare_rounds_would_be_slower(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement above is not empty: without the fit to the schedule's rounds it fails."""
    place = ("dgx_h100", 1, 8)
    closed = alone("closed_form", place, "all_reduce", 1e8, algorithm)[0]
    monkeypatch.setattr(meeting, "steps_of", lambda it, _schedule, comm, _links: comm.steps(it.op, it.gpus))
    assert alone("stepwise", place, "all_reduce", 1e8, algorithm)[0] > 1.2 * closed


def test_two_at_once_on_the_same_links_take_longer_than_one() -> None:
    """Fitting the rounds to idle links leaves their bytes on the links: two meet there and slow each other."""
    place = ("dgx_h100", 1, 8)
    for algorithm in ("ring", "tree", "nvls"):
        one, two = (together(count, place, algorithm) for count in (1, 2))
        assert one * 1.3 < two < one * 2.1, algorithm


def together(count: int, place: tuple[str, int, int], algorithm: str) -> float:
    """Seconds until the last of so many equal all_reduces over the same GPUs is done."""
    name, nodes, ranks = place
    where, gpus = cluster(name, nodes), tuple(range(ranks))
    env, links = simpy.Environment(), Links(where)
    comm = Communicator(where, {"all_reduce": algorithm})
    op = Collective(name="c", inputs=(), outputs=(), kind="all_reduce", over=("tp",), bytes=1e9)
    meetings = [Meeting(env, op, gpus, gpus) for _ in range(count)]
    for one in meetings:
        one.arrived = dict.fromkeys(gpus)
        one.run(comm, links, "stepwise")
    env.run(env.all_of([one.done for one in meetings]))
    return float(env.now)


@pytest.mark.parametrize("place", [*SWITCHED, ("l40s_pcie", 1, 4), ("mi300x", 1, 8)], ids=str)
@pytest.mark.parametrize("kind", [*KINDS, "all_to_all"])
def test_flows_agree_where_nothing_else_runs(kind: Kind, place: tuple[str, int, int]) -> None:
    for size in SIZES:
        closed, flow = (alone(mode, place, kind, size)[0] for mode in ("closed_form", "flow"))
        assert flow == pytest.approx(closed, rel=0.02), size


@settings(max_examples=40)
@given(
    size=st.floats(1e3, 1e9), factor=st.floats(1.0, 8.0), mode=st.sampled_from(("closed_form", "stepwise", "flow")),
    kind=st.sampled_from((*KINDS, "all_to_all")), place=st.sampled_from(SWITCHED[:4]),
)  # fmt: skip
def test_more_bytes_take_no_less_time(
    size: float, factor: float, mode: Mode, kind: Kind, place: tuple[str, int, int]
) -> None:
    algorithm = "pairwise" if kind == "all_to_all" else "ring"
    less, more = (alone(mode, place, kind, n, algorithm)[0] for n in (size, size * factor))
    assert 0 < less <= more * (1 + 1e-9)


def carried(links: Links) -> dict[int, float]:
    found: dict[int, float] = {}
    for passage in links.log:
        found[passage.link] = found.get(passage.link, 0.0) + passage.bytes
    return found


def test_bytes_on_links_are_the_algorithm_s() -> None:
    """A ring of n sends 2 (n - 1) / n of the message over each port, in each direction."""
    _, links = alone("stepwise", ("dgx_h100", 1, 8), "all_reduce", 8e6, "ring")
    found = carried(links)
    assert len(found) == 16
    assert all(size == pytest.approx(2 * 7 / 8 * 8e6) for size in found.values())


@pytest.mark.parametrize("back", [False, True])
def test_skewed_exchange_loads_the_busy_rank(back: bool) -> None:
    """Dispatch pours into the rank with the busy experts; combine pours out of it."""
    share = (0.9, 0.3, 0.2, 0.1)
    place = ("dgx_h100", 1, 4)
    _, links = alone("stepwise", place, "all_to_all", 1.5e6, "pairwise", share, back)
    where = cluster("dgx_h100")
    out, into = [0.0] * 4, [0.0] * 4
    for link, size in carried(links).items():
        source, destination = int(where.link_source[link]), int(where.link_destination[link])
        if where.vertex_kind[source] == where.vertex_kind[0]:
            out[source] += size
        else:
            into[destination] += size
    busy, even = (out, into) if back else (into, out)
    assert busy == pytest.approx([3e6 * part for part in share])
    assert even == pytest.approx([1e6 * (1.5 - part) for part in share])


def test_two_exchanges_of_the_same_bytes_and_different_skew_have_their_own_prices() -> None:
    where, gpus = cluster("dgx_h100", 1), tuple(range(4))
    comm = Communicator(where)
    even, skewed = (
        Collective(name="c", inputs=(), outputs=(), kind="all_to_all", over=("ep",), bytes=1e8, share=share, back=False)
        for share in ((1.0, 1.0, 1.0, 1.0), (4.0, 1.0, 2.0, 1.0))
    )
    assert comm.price(skewed, gpus).time_s > 1.5 * comm.price(even, gpus).time_s
