"""`shardsim collectives` with routing, failing links and launch modes: what each adds, and what is refused."""

import numpy as np
import pytest

from simulator.commands.collectives import collectives_command
from simulator.commands.collectives_fabric import added_seconds, disturbance
from simulator.errors import ScheduleError, ShardsimError, TopologyError
from simulator.scenario.topology_file import load_topology

SIZES = (2.0**20, 2.0**28)


def _added(
    nodes: int, op: str, routing: str = "default", *faults: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    cluster = load_topology("dgx_h100", nodes)
    told = disturbance(cluster, routing, faults)
    assert told is not None
    return added_seconds(cluster, range(cluster.gpus), op, SIZES, told)


def test_nothing_told_disturbs_nothing() -> None:
    assert disturbance(load_topology("dgx_h100", 2), "default", ()) is None


def test_a_rail_at_half_speed_doubles_the_time_on_it() -> None:
    lost = _added(2, "all_reduce", "default", "node0.nic0,leaf0,0.5")
    on_rail = SIZES[1] * 2.0 * (2 - 1) / 16 / 50e9  # 2(N-1)/n of the message over a NIC of 50 GB/s
    assert lost[1] == pytest.approx(on_rail, rel=0.02)


def test_a_dead_nic_sends_its_traffic_by_a_neighbours_and_both_wait() -> None:
    half, dead = (_added(2, "all_reduce", "default", f"node0.nic0,leaf0,{left}")[1] for left in (0.5, 0.0))
    assert dead >= half * 0.99  # two rails' bytes over one NIC


def test_a_fault_after_the_end_costs_nothing_and_one_midway_less_than_one_from_the_start() -> None:
    late, midway, early = (
        _added(2, "all_reduce", "default", f"node0.nic0,leaf0,0.25,{at}")[1] for at in ("10 s", "0.8 ms", "0 us")
    )
    assert late == 0.0
    assert 0.0 < midway < early


def test_hashed_routes_collide_on_spines_where_traffic_leaves_its_leaf() -> None:
    assert _added(2, "all_to_all", "ecmp")[1] >= 0.0
    assert not _added(2, "all_reduce", "ecmp").any()  # rings on rails never leave their leaf


def test_times_between_the_asked_sizes_are_those_of_their_own_flows() -> None:
    cluster = load_topology("dgx_h100", 2)
    told = disturbance(cluster, "default", ("node0.nic0,leaf0,0.3",))
    assert told is not None
    sizes = (2.0**16, 2.0**21, 2.0**24, 2.0**30)
    together = added_seconds(cluster, range(16), "all_to_all", sizes, told)
    alone = [added_seconds(cluster, range(16), "all_to_all", (size,), told)[0] for size in sizes]
    assert together == pytest.approx(alone, rel=0.02)


def test_a_gpu_cut_off_from_everything_is_named() -> None:
    with pytest.raises(ShardsimError, match="down"):
        _added(1, "all_reduce", "default", "node0.gpu0,node0.nvswitch", "node0.gpu0,node0.pcie0")


@pytest.mark.parametrize(
    ("routing", "fault"),
    [
        ("shortest", None),
        ("default", "node0.nic0"),
        ("default", "node0.nic0,leaf9"),
        ("default", "node0.nic0,leaf1"),
        ("default", "node0.nic0,leaf0,1.5"),
        ("default", "node0.nic0,leaf0,x"),
        ("default", "node0.nic0,leaf0,0.5,soon"),
    ],
)
def test_what_cannot_be_is_refused(routing: str, fault: str | None) -> None:
    with pytest.raises(ShardsimError):
        disturbance(load_topology("dgx_h100", 2), routing, (fault,) if fault else ())


def _command(**told: object) -> None:
    collectives_command(
        "dgx_h100", "all_reduce", nodes=1, gpus=None, sizes=("1K", "1K", 2.0), algorithm=None, library="nccl",
        plot=None, **told,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_command_prints_what_a_mode_and_a_fault_cost(capsys: pytest.CaptureFixture[str]) -> None:
    times = []
    for told in ({}, {"mode": "eager"}, {"faults": ("node0.gpu0,node0.nvswitch,0.1",)}):
        _command(**told)
        times.append(float(capsys.readouterr().out.splitlines()[-2].split()[5]))
    assert times[0] < times[1]
    assert times[0] <= times[2]
    with pytest.raises(ScheduleError):
        _command(mode="lazy")
    with pytest.raises(TopologyError):
        _command(faults=("node0.gpu0,node0.gpu1",))
