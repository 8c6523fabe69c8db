"""Links that fail or slow down while a deployment runs."""

from dataclasses import replace

import pytest
from deployments import mixed, parted

from simulator.engine.deployment import Deployment, LinkFault
from simulator.engine.session import Simulation, simulate
from simulator.parallel.layout import Layout
from simulator.topology.routes import route

NODES = mixed(Layout(tp=16), nodes=2, fidelity="flow")
APART = parted(Layout(tp=4), Layout(tp=2), fidelity="flow")


def nic_link(deployment: Deployment) -> int:
    """A link between GPU 0 and the first GPU of the other node: the first that leaves the node."""
    kinds = deployment.cluster.link_kind
    path = route(deployment.cluster, 0, 8)
    return next(link for link in path if kinds[link] != kinds[path[0]])


def times(simulation: Simulation) -> list[float]:
    return [step.end_s - step.start_s for step in simulation.steps]


@pytest.mark.parametrize("deployment", [NODES, APART], ids=["collectives", "hand-over"])
def test_a_fault_after_the_end_changes_nothing(deployment: Deployment) -> None:
    late = replace(deployment, faults=(LinkFault(nic_link(deployment), 3600.0, 0.0),))
    plain, found = simulate(deployment), simulate(late)
    assert times(found) == times(plain)
    assert [h.end_s for h in found.handovers] == [h.end_s for h in plain.handovers]


def test_a_slow_nic_slows_every_step_and_no_number() -> None:
    slow = simulate(replace(NODES, faults=(LinkFault(nic_link(NODES), 0.0, 0.05),)))
    plain = simulate(NODES)
    assert all(b > 1.05 * a for a, b in zip(times(plain), times(slow), strict=True))
    assert slow.miniatures[0].sampled == plain.miniatures[0].sampled


def test_a_slow_nic_delays_the_hand_over() -> None:
    slow = simulate(replace(APART, faults=(LinkFault(nic_link(APART), 0.0, 0.05),)))
    plain = simulate(APART)
    assert max(h.end_s - h.start_s for h in slow.handovers) > 2 * max(h.end_s - h.start_s for h in plain.handovers)
