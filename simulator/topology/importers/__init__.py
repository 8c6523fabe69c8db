"""Topologies read from what machines print: `nvidia-smi topo -m` and NCCL or RCCL topology XML."""

from simulator.topology.importers.detect import import_topology

__all__ = ["import_topology"]
