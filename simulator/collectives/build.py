"""From the name of an algorithm to its schedule."""

from collections.abc import Callable
from functools import lru_cache

from simulator.collectives.builders import direct, exchange, hierarchical, in_switch, logarithmic, ring, tree
from simulator.collectives.builders.setting import Plan, Setting
from simulator.collectives.schedule import KINDS, Kind, Nodes, Schedule, shards_of
from simulator.errors import ScheduleError

MOST_TRANSFERS = 20_000_000
"""About 2 GB of tuples: past this a schedule is not listed (a ring of 16,384 has 5e8 transfers)."""

BUILDERS: dict[tuple[Kind, str], Callable[[Setting], Plan]] = {
    ("all_reduce", "ring"): ring.all_reduce,
    ("all_reduce", "tree"): tree.all_reduce,
    ("all_reduce", "one_shot"): direct.one_shot,
    ("all_reduce", "two_shot"): direct.two_shot,
    ("all_reduce", "halving_doubling"): logarithmic.all_reduce,
    ("all_reduce", "hierarchical"): hierarchical.all_reduce,
    ("all_reduce", "nvls"): in_switch.all_reduce,
    ("all_reduce", "nvls_tree"): in_switch.tree_all_reduce,
    ("reduce_scatter", "ring"): ring.reduce_scatter,
    ("reduce_scatter", "direct"): direct.reduce_scatter,
    ("reduce_scatter", "pat"): logarithmic.reduce_scatter,
    ("reduce_scatter", "hierarchical"): hierarchical.reduce_scatter,
    ("reduce_scatter", "nvls"): in_switch.reduce_scatter,
    ("all_gather", "ring"): ring.all_gather,
    ("all_gather", "direct"): direct.all_gather,
    ("all_gather", "pat"): logarithmic.all_gather,
    ("all_gather", "hierarchical"): hierarchical.all_gather,
    ("all_gather", "nvls"): in_switch.all_gather,
    ("all_to_all", "pairwise"): exchange.pairwise,
    ("all_to_all", "two_level"): exchange.two_level,
    ("broadcast", "ring"): ring.broadcast,
    ("broadcast", "tree"): tree.broadcast,
    ("send_recv", "direct"): direct.send_recv,
}


def algorithms(kind: Kind) -> tuple[str, ...]:
    """Names of the algorithms that carry out `kind`."""
    return tuple(name for of, name in BUILDERS if of == kind)


@lru_cache(maxsize=128)
def build(
    kind: Kind, algorithm: str, ranks: int, *, nodes: Nodes | None = None, channels: int = 1, pipeline: int = 4
) -> Schedule:
    """The schedule of one collective over a group of `ranks`.

    `nodes` lists the places in the group node by node (None: all on one node). `channels` rings, trees or pieces run
    side by side; algorithms that stream (tree, nvls, nvls_tree, ring broadcast) send `pipeline` pieces one behind the
    other. A group of one has no rounds. Raises ScheduleError for what the group or the nodes cannot do.
    """
    setting = Setting(ranks, nodes or (tuple(range(ranks)),), channels, pipeline)
    builder = check_request(kind, algorithm, setting)
    if ranks == 1:
        return Schedule(kind, algorithm, 1, shards_of(kind, 1), ())
    _refuse_huge(kind, algorithm, setting)
    plan = builder(setting)
    return Schedule(kind, algorithm, ranks, plan.chunks, plan.rounds, plan.switches)


def _refuse_huge(kind: Kind, algorithm: str, setting: Setting) -> None:
    pieces = setting.pipeline if algorithm.startswith("nvls") else setting.channels
    transfers = 2 * setting.ranks**2 * pieces
    if transfers > MOST_TRANSFERS and algorithm not in ("tree", "nvls_tree") and kind not in ("broadcast", "send_recv"):
        raise ScheduleError(
            where=f"{algorithm} {kind}",
            given=f"{setting.ranks} ranks x {pieces} pieces",
            rule=f"about {transfers:.0e} transfers are too many to list (at most {MOST_TRANSFERS:.0e})",
            way_out="use closed_form.alpha_beta, or phases.phases for flows",
        )


def check_request(kind: Kind, algorithm: str, setting: Setting) -> Callable[[Setting], Plan]:
    """The builder of this algorithm, after checking that the request makes sense."""
    if kind not in KINDS:
        raise ScheduleError(given=repr(kind), rule=f"a collective is one of {', '.join(KINDS)}")
    builder = BUILDERS.get((kind, algorithm))
    if builder is None:
        raise ScheduleError(
            where=kind, given=repr(algorithm), rule="no such algorithm", way_out=f"use {', '.join(algorithms(kind))}"
        )
    for name in ("ranks", "channels", "pipeline"):
        value = getattr(setting, name)
        if not isinstance(value, int) or value < 1:
            raise ScheduleError(
                where=f"{algorithm} {kind}: {name}", given=str(value), rule="must be a whole number of at least 1"
            )
    members = sorted(rank for node in setting.nodes for rank in node)
    if members != list(range(setting.ranks)) or not all(setting.nodes):
        raise ScheduleError(
            where=f"{algorithm} {kind}: nodes",
            given=f"{len(members)} places in {len(setting.nodes)} nodes",
            rule=f"must name each place 0..{setting.ranks - 1} of the group once, and no node may be empty",
        )
    return builder
