"""The shape of each algorithm's time without building its schedule, for groups of any size.

n ranks on N nodes of m ranks each (sizes may differ), c channels, P pieces in a pipeline. Tested equal to counting
the schedule (`volume.shape`). Shares are of the message as `volume` defines it.
"""

from collections.abc import Callable
from functools import lru_cache

from simulator.collectives import closed_form_trees as trees
from simulator.collectives.build import check_request
from simulator.collectives.builders.direct import two_ranks
from simulator.collectives.builders.in_switch import one_node
from simulator.collectives.builders.setting import Setting
from simulator.collectives.schedule import Kind, Nodes
from simulator.collectives.volume import Shape


def alpha_beta(
    kind: Kind, algorithm: str, ranks: int, *, nodes: Nodes | None = None, channels: int = 1, pipeline: int = 4
) -> Shape:
    """Rounds, hops and shares of one collective; arguments as `build.build` takes them, and the same refusals."""
    return _alpha_beta(kind, algorithm, ranks, nodes or (tuple(range(ranks)),), channels, pipeline)


@lru_cache(maxsize=4096)
def _alpha_beta(kind: Kind, algorithm: str, ranks: int, nodes: Nodes, channels: int, pipeline: int) -> Shape:
    setting = Setting(ranks, nodes, channels, pipeline)
    check_request(kind, algorithm, setting)
    if ranks == 1:
        return Shape(0, 0, 0, 0.0, 0.0, 0.0)
    return FORMS[kind, algorithm](setting)


def _ring(setting: Setting, turns: int) -> Shape:
    """A turn is n - 1 rounds, (n - 1) / n of the bytes over every edge of the ring.

    The longest chain runs along all edges of `turns` turns but the last one (of each turn), which are next to each
    other; they can all be inside a node where the largest node has more than `turns` ranks.
    """
    n, count, c = setting.ranks, len(setting.nodes), setting.channels
    sizes = {len(node) for node in setting.nodes}
    share = turns * (n - 1) / n
    if count == 1:
        return Shape(turns * (n - 1), turns * (n - 1), 0, share, 0.0, 0.0)
    far = turns * count - max(turns - (max(sizes) - 1), 0)
    return Shape(
        rounds=turns * (n - 1),
        hops=turns * (n - 1) - far,
        network_hops=far,
        port_share=share * max(1 - c // m / c for m in sizes),
        nic_share=share * max(-(-c // m) / c for m in sizes),
        node_share=share,
    )


def _everyone(setting: Setting, rounds: int, hops: int, share: float) -> Shape:
    """Each rank sends `share` to each other, over `rounds` rounds of which `hops` wait for each other."""
    n, sizes = setting.ranks, {len(node) for node in setting.nodes}
    far = hops if len(setting.nodes) > 1 else 0
    return Shape(
        rounds=rounds,
        hops=hops - far,
        network_hops=far,
        port_share=share * (max(sizes) - 1),
        nic_share=share * (n - min(sizes)),
        node_share=share * max(m * (n - m) for m in sizes),
    )


def _hierarchical(setting: Setting, turns: int) -> Shape:
    count, size = setting.equal_nodes("hierarchical")
    return Shape(
        rounds=turns * (size + count - 2),
        hops=turns * (size - 1),
        network_hops=turns * (count - 1),
        port_share=turns * (size - 1) / size,
        nic_share=turns * (count - 1) / setting.ranks,
        node_share=turns * (count - 1) / count,
    )


def _two_level(setting: Setting) -> Shape:
    count, size = setting.equal_nodes("two_level all_to_all")
    return Shape(
        rounds=size + count - 2,
        hops=int(size > 1),
        network_hops=1,
        port_share=(size - 1) / size,
        nic_share=(count - 1) / count,
        node_share=size * (count - 1) / count,
    )


def _nvls(setting: Setting, stages: int, share: float) -> Shape:
    one_node(setting)
    return Shape(stages + setting.pipeline - 1, stages, 0, share, 0.0, 0.0)


def _send_recv(setting: Setting) -> Shape:
    two_ranks(setting)
    far = len(setting.nodes) - 1
    return Shape(1, 1 - far, far, 1.0 - far, float(far), float(far))


FORMS: dict[tuple[Kind, str], Callable[[Setting], Shape]] = {
    ("all_reduce", "ring"): lambda s: _ring(s, 2),
    ("all_reduce", "tree"): trees.double_tree,
    ("all_reduce", "one_shot"): lambda s: _everyone(s, 1, 1, 1.0),
    ("all_reduce", "two_shot"): lambda s: _everyone(s, 2, 2, 2 / s.ranks),
    ("all_reduce", "halving_doubling"): lambda s: trees.dissemination(s, 2),
    ("all_reduce", "hierarchical"): lambda s: _hierarchical(s, 2),
    ("all_reduce", "nvls"): lambda s: _nvls(s, 4, 1 + 1 / s.ranks),
    ("all_reduce", "nvls_tree"): trees.nvls_tree,
    ("reduce_scatter", "ring"): lambda s: _ring(s, 1),
    ("reduce_scatter", "direct"): lambda s: _everyone(s, 1, 1, 1 / s.ranks),
    ("reduce_scatter", "pat"): lambda s: trees.dissemination(s, 1),
    ("reduce_scatter", "hierarchical"): lambda s: _hierarchical(s, 1),
    ("reduce_scatter", "nvls"): lambda s: _nvls(s, 2, 1.0),
    ("all_gather", "ring"): lambda s: _ring(s, 1),
    ("all_gather", "direct"): lambda s: _everyone(s, 1, 1, 1 / s.ranks),
    ("all_gather", "pat"): lambda s: trees.dissemination(s, 1),
    ("all_gather", "hierarchical"): lambda s: _hierarchical(s, 1),
    ("all_gather", "nvls"): lambda s: _nvls(s, 2, 1 - 1 / s.ranks),
    ("all_to_all", "pairwise"): lambda s: _everyone(s, s.ranks - 1, 1, 1 / s.ranks),
    ("all_to_all", "two_level"): _two_level,
    ("broadcast", "ring"): trees.chain_broadcast,
    ("broadcast", "tree"): trees.binomial_broadcast,
    ("send_recv", "direct"): _send_recv,
}
