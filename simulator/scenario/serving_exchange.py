"""How much of a step a replica's own exchange fills the NICs that KV comes over."""

from simulator.cost.table.comm import price_comm
from simulator.cost.table.direct import works
from simulator.engine.server import Server
from simulator.program.ops import Collective
from simulator.serving.policy import Policy

TYPICAL_DECODES = 64
"""Sequences of a rank at which a decode step is looked at: the share hardly depends on it, as both parts grow."""


def exchange_share(server: Server, policy: Policy, context: int, *, prefill: bool, shared_links: bool) -> float:
    """Time of the collectives that leave the node over the time of the step, in [0, 1].

    `shared_links`: KV goes over the very links of collectives inside the node (one scale-up domain), so that these
    count, too. Their time, latencies included, is taken as time in which the links are theirs. A step of a prefill
    replica is one of full prompts, of others one of `TYPICAL_DECODES` sequences of `context` tokens.
    """
    setup, table = server.setup, server.table
    tokens = min(policy.max_batched_tokens, 4 * context) if prefill else min(TYPICAL_DECODES, policy.max_sequences)
    if prefill:
        step_s = table.step_time_s(tokens, 0, 0, 0, prefill_sequences=max(1, tokens // context))
    else:
        step_s = table.step_time_s(0, 0, tokens, tokens * context)
    busy_s = 0.0
    for stage in table.direct.stages:
        program = table.direct.program(stage.index, works(tokens, not prefill), setup.program.expert_skew)
        for _, op in program.ops():
            if isinstance(op, Collective):
                links = setup.links(op.over)
                if links.ranks > 1 and (links.nodes > 1 or shared_links):
                    busy_s += stage.times * price_comm(setup, op).time_s
    return min(1.0, busy_s / step_s)
