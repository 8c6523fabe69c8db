"""The price of a program's communication from the link facts of its mesh axes."""

from dataclasses import replace
from math import ceil

from simulator.cost.collective import collective_price, expert_all_to_all_price
from simulator.cost.op import NOTHING
from simulator.cost.price import Price
from simulator.cost.table.options import Setup
from simulator.program.ops import Collective, CommOp, ExpertExchange, Receive
from simulator.topology.group import GroupLinks


def price_comm(setup: Setup, op: CommOp) -> Price:
    """Time of a collective or send on the setup's links; a receive costs nothing beside its send."""
    if isinstance(op, Receive):
        return NOTHING
    if setup.comm is not None:
        return _slower(setup.comm(op), setup)
    if not isinstance(op, Collective):
        return _slower(collective_price(_neighbours(setup.links(("pp",))), "send_recv", op.bytes), setup)
    links = setup.links(op.over)
    if op.exchange is not None and links.ranks > 1 and links.scale_up in ("nvswitch", "nvlink_mesh"):
        return _exchange(links, op, op.exchange)
    library = setup.engine.all_reduce if op.kind == "all_reduce" else "nccl"
    return _slower(collective_price(links, op.kind, op.bytes, library=library), setup)


def _neighbours(links: GroupLinks) -> GroupLinks:
    """Two stages that follow each other, of a pipeline over all of these ranks; between nodes if any two are."""
    nodes = min(2, links.nodes)
    return replace(links, ranks=min(2, links.ranks), nodes=nodes, ranks_per_node=1 if nodes > 1 else 2)


def _slower(price: Price, setup: Setup) -> Price:
    share = setup.engine.all_reduce_share
    return price if share == 1.0 else Price(price.time_s / share, price.provenance, price.error, price.bound)


def _exchange(links: GroupLinks, op: Collective, sent: ExpertExchange) -> Price:
    limit = None
    if sent.groups > 1 and links.nodes > 1:
        # Group-limited routing: a group of experts stands together, so a token visits few nodes.
        limit = float(min(links.nodes, sent.groups_kept * ceil(links.nodes / sent.groups)))
    return expert_all_to_all_price(
        links, phase=sent.phase, kernel=sent.kernel, tokens_per_rank=sent.tokens, hidden=sent.hidden,
        topk=sent.top_k, experts=sent.experts, dtype="fp8" if op.dtype.startswith("fp8") else op.dtype,
        node_limit=limit, pair_bytes=_uneven(op, links.ranks),
    )  # fmt: skip


def _uneven(op: Collective, ranks: int) -> tuple[tuple[float, ...], ...] | None:
    """Bytes between each pair where experts are unevenly busy; None where they are even."""
    if not op.share or max(op.share) - min(op.share) < 1e-9:
        return None
    total = sum(op.share)
    row = tuple(op.bytes * part / total for part in op.share)
    if op.exchange is not None and op.exchange.phase == "combine":
        return tuple((part,) * ranks for part in row)
    return (row,) * ranks
