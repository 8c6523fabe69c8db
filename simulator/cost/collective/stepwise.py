"""Per-round numbers with which a run of a schedule's transfers takes the closed form's time."""

from dataclasses import dataclass
from functools import lru_cache

from simulator.cost.collective.counted import counted
from simulator.cost.collective.custom import find_kernel, kernel_wire
from simulator.cost.collective.facts import Protocol
from simulator.cost.collective.parameters import shipped
from simulator.cost.collective.price import collective_price, platform_of, selection
from simulator.cost.collective.request import check_bytes
from simulator.cost.collective.stages import FITTED_OP, network_stage, scale_up_rate, shape_of, stage_of
from simulator.errors import ScheduleError
from simulator.topology.group import GroupLinks

_LARGEST_EFFICIENCY = 64.0
"""A schedule of one channel stands for as many as the node has NICs, so its share of one NIC may exceed 1."""


@dataclass(frozen=True, slots=True)
class StepwiseParameters:
    """What a run of the schedule, transfer by transfer, is charged.

    A transfer costs its step (the network's where it crosses nodes, else the scale-up link's) and its bytes over
    efficiency * the link's rate; `launch_s` is paid once and holds launch and pipeline fill. An efficiency above 1
    says that the library uses more links side by side than the schedule's one channel does.
    """

    launch_s: float
    intra_step_s: float
    inter_step_s: float
    intra_efficiency: float
    inter_efficiency: float


@dataclass(frozen=True, slots=True)
class _Costs:
    """Steps, and the seconds that the closed form spends on the wires."""

    intra_step_s: float
    inter_step_s: float
    inside_s: float
    across_s: float


def _kernel_costs(links: GroupLinks, name: str, message_bytes: float, library: str) -> _Costs | None:
    kernel = find_kernel(library if "<" in library or library in shipped().custom else "vllm", links, shipped())
    if kernel is None:
        return None
    share = {"one_shot": kernel.one_shot_efficiency, "two_shot": kernel.two_shot_efficiency}
    rate = min(links.scale_up_bytes_per_s, links.pair_bytes_per_s * (links.ranks - 1))
    wire = kernel_wire(name, links.ranks) * message_bytes
    return _Costs(0.0, 0.0, wire / (rate * share.get(name, kernel.multicast_efficiency)), 0.0)


def _stage_costs(links: GroupLinks, op: str, name: str, protocol: Protocol, message_bytes: float) -> _Costs:
    platform, _ = platform_of(links)
    shape, stage = shape_of(name, op, links), stage_of(platform, op, name, protocol)
    rate = scale_up_rate(links, platform) * stage.efficiency[FITTED_OP.get(op, op)]
    inside = message_bytes * shape.inside_wire / rate if shape.inside_wire else 0.0
    if links.nodes == 1:
        return _Costs(stage.hop_s, 0.0, inside, 0.0)
    network = network_stage(shipped(), links, op, protocol)
    across = message_bytes * shape.across_wire / (links.nic_bytes_per_s * network.share(links.nodes))
    return _Costs(stage.hop_s, network.hop_s + links.network_latency_s, inside, across)


@lru_cache(maxsize=1 << 14)
def stepwise_parameters(
    links: GroupLinks, op: str, message_bytes: float, algorithm: str | None = None, *, library: str = "nccl"
) -> StepwiseParameters:
    """Numbers for running this collective's schedule (one channel, four pieces) round by round.

    Steps come from the fit; each efficiency makes the busiest link of its kind take the closed form's wire time;
    the launch is what remains of the closed form's total. Where the schedule has more dependent hops than the
    library (it pipelines coarser), steps shrink so that the sum is kept.
    """
    check_bytes(message_bytes)
    total = collective_price(links, op, message_bytes, library=library, algorithm=algorithm).time_s
    if links.ranks == 1 or message_bytes == 0.0:
        return StepwiseParameters(total, 0.0, 0.0, 1.0, 1.0)
    name, protocol = selection(links, op, message_bytes, library=library, algorithm=algorithm)
    on_kernel = name in ("one_shot", "two_shot", "multicast")
    costs = _kernel_costs(links, name, message_bytes, library) if on_kernel else None
    costs = costs or _stage_costs(links, op, "ring" if on_kernel else name, protocol, message_bytes)
    try:
        form = counted(links, op, name)
    except ScheduleError:
        return StepwiseParameters(total, 0.0, 0.0, _LARGEST_EFFICIENCY, _LARGEST_EFFICIENCY)
    inside = form.port_share * message_bytes / links.scale_up_bytes_per_s if form.port_share else 0.0
    across = form.nic_share * message_bytes / links.nic_bytes_per_s if form.nic_share else 0.0
    wire = max(costs.inside_s if inside else 0.0, costs.across_s if across else 0.0)
    steps = form.hops * costs.intra_step_s + form.network_hops * costs.inter_step_s
    shrink = min(1.0, max(total - wire, 0.0) / steps) if steps else 0.0
    return StepwiseParameters(
        launch_s=max(total - wire - steps * shrink, 0.0),
        intra_step_s=costs.intra_step_s * shrink,
        inter_step_s=costs.inter_step_s * shrink,
        intra_efficiency=_share(inside, costs.inside_s),
        inter_efficiency=_share(across, costs.across_s),
    )


def _share(at_full_rate_s: float, priced_s: float) -> float:
    """Efficiency with which a link that would take `at_full_rate_s` takes `priced_s`."""
    return min(at_full_rate_s / priced_s, _LARGEST_EFFICIENCY) if at_full_rate_s and priced_s else 1.0
