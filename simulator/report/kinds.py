"""Kinds of op put into the few groups that a reader compares; each has one colour on every page."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """A label and the palette slot that the page colours it with."""

    label: str
    colour: str
    comm: bool = False


PROJECTIONS = Group("Projections", "@blue")
ATTENTION = Group("Attention", "@teal")
EXPERTS = Group("Experts", "@violet")
ROUTING = Group("Routing and packing", "@lilac")
SMALL = Group("Norms and elementwise", "@sky")
ENDS = Group("Embedding and sampling", "@grey")
ALL_REDUCE = Group("all_reduce", "@orange", True)
ALL_GATHER = Group("all_gather", "@amber", True)
REDUCE_SCATTER = Group("reduce_scatter", "@ochre", True)
ALL_TO_ALL = Group("all_to_all", "@red", True)
POINT_TO_POINT = Group("send and receive", "@brown", True)

GROUPS = (
    PROJECTIONS, ATTENTION, EXPERTS, ROUTING, SMALL, ENDS,
    ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, POINT_TO_POINT,
)  # fmt: skip
_OF_KIND = {
    **dict.fromkeys(("Linear",), PROJECTIONS),
    **dict.fromkeys(("Attend", "AttendLatent", "AttendLinear", "MergeAttention"), ATTENTION),
    **dict.fromkeys(("Experts",), EXPERTS),
    **dict.fromkeys(("Route", "ExpertLoad", "DispatchPack", "DispatchUnpack", "CombinePack", "CombineUnpack"), ROUTING),
    **dict.fromkeys(("Embed", "LastTokens", "LocalBest", "PickBest"), ENDS),
    "all_reduce": ALL_REDUCE,
    "all_gather": ALL_GATHER,
    "reduce_scatter": REDUCE_SCATTER,
    "all_to_all": ALL_TO_ALL,
    **dict.fromkeys(("send", "receive", "Send", "Receive", "send_recv"), POINT_TO_POINT),
}


def group_of(kind: str, stream: str = "compute") -> Group:
    """The group of a kind of op; kinds not named above are small ones on the compute stream, messages on the other."""
    return _OF_KIND.get(kind, POINT_TO_POINT if stream == "comm" else SMALL)
