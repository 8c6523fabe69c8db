"""How many leaf, spine and core switches a number of nodes needs, and how they are wired.

A leaf of p ports at oversubscription o has floor(p o / (1 + o)) ports down (port counts of SuperPOD-like fabrics:
64 ports, 32 down and 32 up; NVIDIA DGX SuperPOD H100 reference architecture, 2023-11). Spines of a pod each connect
to all its leaves with the same number of cables, cores likewise to the pods, so that bundles are even.
"""

from dataclasses import dataclass
from math import ceil

from simulator.errors import TopologyError
from simulator.topology.spec import Fabric


@dataclass(frozen=True, slots=True)
class Shape:
    """A sized fabric. NIC `j` of a node is on rail `j % rails`; `nics_per_rail` NICs of each node are on a rail.

    Leaf (group q, rail r) has the index q * rails + r within the cluster; pods hold `groups_per_pod` groups.
    """

    rails: int
    nics_per_rail: int
    ports_down: int
    """NICs a leaf takes before the next group of leaves begins."""
    groups: int
    groups_per_pod: int
    spines_per_pod: int
    leaf_spine_cables: int
    """Cables in the bundle of one leaf and one spine."""
    cores_per_plane: int
    """Core switches that the i-th spines of all pods share; 0 with one pod."""
    spine_core_cables: int

    @property
    def leaves(self) -> int:
        """Leaf switches."""
        return self.groups * self.rails

    @property
    def leaves_per_pod(self) -> int:
        """Leaf switches of a full pod."""
        return self.groups_per_pod * self.rails

    @property
    def pods(self) -> int:
        """Pods, the last of which may hold fewer groups."""
        return ceil(self.groups / self.groups_per_pod)

    @property
    def spines(self) -> int:
        """Spine switches of all pods."""
        return self.pods * self.spines_per_pod

    @property
    def cores(self) -> int:
        """Core switches."""
        return self.spines_per_pod * self.cores_per_plane


def shape_fabric(fabric: Fabric, nics: int, nodes: int) -> Shape:
    """Size the fabric for `nodes` nodes of `nics` NICs; TopologyError where the tiers cannot hold them."""
    _check(fabric, nics)
    ports, rails = fabric.switch_ports, fabric.rails
    nics_per_rail = nics // rails
    down = max(1, int(ports * fabric.oversubscription / (1 + fabric.oversubscription)))
    attached = nodes * nics_per_rail
    groups = ceil(attached / down)
    if groups * rails == 1:
        return Shape(rails, nics_per_rail, down, 1, 1, 0, 0, 0, 0)
    up = min(ports - 1, ceil(min(attached, down) / fabric.oversubscription))
    if groups * rails <= ports:
        spines = _even_split(up, groups * rails * up / ports)
        return Shape(rails, nics_per_rail, down, groups, groups, spines, up // spines, 0, 0)
    if fabric.tiers == 2:
        raise _too_many(fabric, nodes, ports // rails * down // nics_per_rail, "set fabric.tiers: 3")
    groups_per_pod = ports // 2 // rails
    pods = ceil(groups / groups_per_pod)
    if pods > ports:
        raise _too_many(fabric, nodes, ports * groups_per_pod * down // nics_per_rail, "use switches of more ports")
    leaves = groups_per_pod * rails
    spines = _even_split(up, leaves * up / (ports // 2))
    spine_up = min(ports // 2, leaves * up // spines)
    cores = _even_split(spine_up, pods * spine_up / ports)
    return Shape(rails, nics_per_rail, down, groups, groups_per_pod, spines, up // spines, cores, spine_up // cores)


def _check(fabric: Fabric, nics: int) -> None:
    if fabric.rails < 1 or nics % fabric.rails:
        rails = [n for n in range(1, nics + 1) if nics % n == 0]
        raise TopologyError(
            given=str(fabric.rails),
            rule=f"does not divide the {nics} NICs of a node",
            way_out=f"use one of {rails}",
            where="fabric.rails",
        )
    if fabric.switch_ports < 2 * fabric.rails:
        raise TopologyError(
            given=str(fabric.switch_ports),
            rule=f"a switch has at least two ports for each of the {fabric.rails} rails",
            where="fabric.switch_ports",
        )
    if not 0 < fabric.oversubscription < fabric.switch_ports:
        raise TopologyError(
            given=f"{fabric.oversubscription:g}",
            rule=f"is a leaf's ports down over its ports up: above 0, below {fabric.switch_ports}",
            way_out="use 1 for non-blocking, 2 for half the bandwidth up",
            where="fabric.oversubscription",
        )


def _even_split(cables: int, at_least: float) -> int:
    """The smallest divisor of `cables` that is `at_least` so many (all of them if none is)."""
    return next((n for n in range(1, cables + 1) if cables % n == 0 and n >= at_least), cables)


def _too_many(fabric: Fabric, nodes: int, most: int, way_out: str) -> TopologyError:
    return TopologyError(
        given=f"{nodes} nodes",
        rule=f"{fabric.tiers} tiers of {fabric.switch_ports}-port switches hold at most {most} nodes",
        way_out=way_out,
        where="nodes",
    )
