"""Pure state machines of an engine: what to run next. Events in, decisions out; no clock and no SimPy in here."""

from simulator.serving.batcher import Batcher, Outcome, Step
from simulator.serving.blocks import KvBlocks
from simulator.serving.invariants import INVARIANTS, check_invariants
from simulator.serving.policy import Policy, find_policy
from simulator.serving.prefix import PrefixCache
from simulator.serving.tiers import SwapSpace, Tier

__all__ = [
    "INVARIANTS",
    "Batcher",
    "KvBlocks",
    "Outcome",
    "Policy",
    "PrefixCache",
    "Step",
    "SwapSpace",
    "Tier",
    "check_invariants",
    "find_policy",
]
