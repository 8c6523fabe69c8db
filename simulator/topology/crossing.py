"""Routes of many pairs at once, by arithmetic on the cluster's regular numbering."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.topology.block import Ints
from simulator.topology.cluster import Cluster
from simulator.topology.leafspine import Shape
from simulator.topology.tables import NodeTables


def mix(source: Ints, destination: Ints, salt: Ints) -> Ints:
    """A hash of the pair, as ECMP makes of a flow's addresses (splitmix64 finaliser; Steele et al. 2014)."""
    x = source.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + destination.astype(np.uint64)
    x += salt.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Crossing:
    """Route arithmetic of one cluster."""

    cluster: Cluster

    @property
    def _tables(self) -> NodeTables:
        return self.cluster.tables

    @cached_property
    def _block_links(self) -> int:
        return len(self.cluster.block.source)

    def padded(self, source: Ints, destination: Ints, pxn: bool, hashed: bool, salt: Ints) -> Ints:
        """(pairs, hops) link ids in order of travel, -1 in places that a pair does not use."""
        gpus = self.cluster.block.gpus
        node, there = source // gpus, destination // gpus
        inside = self._shift(self._tables.between[source % gpus, destination % gpus], node)
        if self.cluster.shape is None:
            return inside
        inside = np.where((node == there)[:, None], inside, -1)
        across = self._across(source, destination, pxn, hashed, salt)
        return np.hstack([inside, np.where((node == there)[:, None], -1, across)])

    def _shift(self, inside: Ints, copy: Ints) -> Ints:
        return np.where(inside >= 0, inside + copy[:, None] * self._block_links, -1)

    def _across(self, source: Ints, destination: Ints, pxn: bool, hashed: bool, salt: Ints) -> Ints:
        tables, shape, gpus = self._tables, self.cluster.shape, self.cluster.block.gpus
        assert shape is not None
        node, local = np.divmod(source, gpus)
        there, far = np.divmod(destination, gpus)
        k = (source + destination) % tables.gpu_nic.shape[1]
        nic_in = tables.gpu_nic[far, k]
        parts = []
        if pxn:
            relay = self._relay[local, nic_in % shape.rails]
            parts.append(self._shift(tables.between[local, relay], node))
            local = relay
        parts.append(self._shift(tables.out[local, k], node))
        key = mix(source, destination, salt) if hashed else self._slot(there, nic_in, shape) + salt
        parts.append(self._fabric(node, tables.gpu_nic[local, k], there, nic_in, key))
        parts.append(self._shift(tables.into[far, k], there))
        return np.hstack(parts)

    @staticmethod
    def _slot(node: Ints, nic: Ints, shape: Shape) -> Ints:
        """Position of a NIC along its rail."""
        return node * shape.nics_per_rail + nic // shape.rails

    def _fabric(self, node: Ints, nic: Ints, there: Ints, nic_in: Ints, key: Ints) -> Ints:
        """(pairs, 6) NIC up, leaf up, spine up, spine down, leaf down, NIC down."""
        shape, cluster = self.cluster.shape, self.cluster
        assert shape is not None
        nics = len(cluster.block.nics)
        base = self._block_links * cluster.copies
        all_nics, leaf_up = cluster.copies * nics, base + 2 * cluster.copies * nics
        leaf = self._slot(node, nic, shape) // shape.ports_down * shape.rails + nic % shape.rails
        leaf_in = self._slot(there, nic_in, shape) // shape.ports_down * shape.rails + nic_in % shape.rails
        spines, cores = max(1, shape.spines_per_pod), max(1, shape.cores_per_plane)
        spine, core = key % spines, key // spines % cores
        pod, pod_in = leaf // shape.leaves_per_pod, leaf_in // shape.leaves_per_pod
        spine_up = leaf_up + 2 * shape.leaves * shape.spines_per_pod
        up, down = (pod * spines + spine) * cores + core, (pod_in * spines + spine) * cores + core
        moved, far = leaf != leaf_in, pod != pod_in
        return np.column_stack(
            [
                base + node * nics + nic,
                np.where(moved, leaf_up + leaf * spines + spine, -1),
                np.where(far, spine_up + up, -1),
                np.where(far, spine_up + shape.spines * cores + down, -1),
                np.where(moved, leaf_up + (shape.leaves + leaf_in) * spines + spine, -1),
                base + all_nics + there * nics + nic_in,
            ]
        )

    @cached_property
    def _relay(self) -> Ints:
        """(gpus, rails) the local GPU that owns a rail and is reached over NVLink, nearest number first."""
        shape, tables = self.cluster.shape, self._tables
        assert shape is not None
        gpus = self.cluster.block.gpus
        rail_of = tables.gpu_nic[:, 0] % shape.rails
        relay = np.tile(np.arange(gpus)[:, None], (1, shape.rails))
        for gpu in range(gpus):
            for rail in range(shape.rails):
                owners = [g for g in range(gpus) if rail_of[g] == rail and tables.nvlink_only[gpu, g]]
                if owners:
                    relay[gpu, rail] = min(owners, key=lambda g: (abs(g - gpu), g))
        return relay
