"""The directed links of a leaf-spine fabric, as arrays in their numbering order."""

from dataclasses import dataclass

import numpy as np

from simulator.topology.block import Floats, Ints, check_wire
from simulator.topology.leafspine import Shape
from simulator.topology.spec import LINK_KINDS, ClusterSpec, Fabric, NodeSpec, Wire


@dataclass(frozen=True, eq=False)
class FabricLinks:
    """Links between NICs, leaves, spines and cores.

    Order: NIC to leaf (node, NIC), leaf to NIC (same order), leaf to spine (leaf, spine of its pod), spine to leaf
    (same order), spine to core (spine, core of its plane), core to spine (same order).
    """

    source: Ints
    destination: Ints
    kind: Ints
    bandwidth_bytes_per_s: Floats
    latency_s: Floats

    @classmethod
    def none(cls) -> "FabricLinks":
        """No fabric at all."""
        ints, floats = np.empty(0, dtype=np.int64), np.empty(0)
        return cls(ints, ints, ints, floats, floats)


def wire_fabric(spec: ClusterSpec, shape: Shape, nic_vertex: Ints, first_switch: int) -> FabricLinks:
    """Links of the fabric of that shape; `nic_vertex` is (nodes, NICs), switches are numbered from `first_switch`."""
    fabric = spec.fabric
    assert fabric is not None
    leaf0, spine0 = first_switch, first_switch + shape.leaves
    core0 = spine0 + shape.spines
    tiers = [
        (nic_vertex.ravel(), leaf0 + nic_leaf(shape, *nic_vertex.shape).ravel(), "nic", _port(spec), 1),
        (*_leaf_spine(shape, leaf0, spine0), "network", fabric.hop, shape.leaf_spine_cables),
        (*_spine_core(shape, spine0, core0), "network", fabric.hop, shape.spine_core_cables),
    ]
    parts: list[tuple[Ints, Ints, int, float, float]] = []
    for below, above, kind, wire, cables in tiers:
        facts = (LINK_KINDS.index(kind), wire.bandwidth_bytes_per_s * cables, wire.latency_s)
        parts += [(below, above, *facts), (above, below, *facts)]
    counts = [len(part[0]) for part in parts]
    return FabricLinks(
        source=np.concatenate([part[0] for part in parts]),
        destination=np.concatenate([part[1] for part in parts]),
        kind=np.repeat([part[2] for part in parts], counts),
        bandwidth_bytes_per_s=np.repeat([part[3] for part in parts], counts),
        latency_s=np.repeat([part[4] for part in parts], counts),
    )


def nic_leaf(shape: Shape, nodes: int, nics: int) -> Ints:
    """(nodes, nics) leaf index of every NIC: dealt to rails in turn, groups of leaves filled node by node."""
    node, nic = np.arange(nodes)[:, None], np.arange(nics)[None, :]
    return (node * shape.nics_per_rail + nic // shape.rails) // shape.ports_down * shape.rails + nic % shape.rails


def _port(spec: ClusterSpec) -> Wire:
    """The wire between a NIC and its leaf: the node's own description of it, or one port of the fabric."""
    fabric: Fabric | None = spec.fabric
    assert fabric is not None
    if isinstance(spec.node, NodeSpec):
        wire = spec.node.nics.port if spec.node.nics else fabric.hop
    else:
        wire = spec.node.port or fabric.hop
    check_wire(wire.bandwidth_bytes_per_s, wire.latency_s, f"{spec.name}: nics.port")
    return wire


def _leaf_spine(shape: Shape, leaf0: int, spine0: int) -> tuple[Ints, Ints]:
    leaf, spine = np.arange(shape.leaves)[:, None], np.arange(shape.spines_per_pod)[None, :]
    pod = leaf // shape.leaves_per_pod
    below = np.broadcast_to(leaf + leaf0, (shape.leaves, shape.spines_per_pod))
    return below.ravel(), (spine0 + pod * shape.spines_per_pod + spine).ravel()


def _spine_core(shape: Shape, spine0: int, core0: int) -> tuple[Ints, Ints]:
    spine, core = np.arange(shape.spines)[:, None], np.arange(shape.cores_per_plane)[None, :]
    plane = spine % shape.spines_per_pod if shape.spines_per_pod else spine
    below = np.broadcast_to(spine + spine0, (shape.spines, shape.cores_per_plane))
    return below.ravel(), (core0 + plane * shape.cores_per_plane + core).ravel()
