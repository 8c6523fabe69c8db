"""Collectives read as time: NCCL's choice, fitted stages, engine kernels, expert exchange, KV transfer."""

from simulator.cost.collective.expert import expert_all_to_all_price
from simulator.cost.collective.price import collective_price, collective_times, selection
from simulator.cost.collective.stepwise import StepwiseParameters, stepwise_parameters
from simulator.cost.collective.transfer import transfer_price

__all__ = [
    "StepwiseParameters",
    "collective_price",
    "collective_times",
    "expert_all_to_all_price",
    "selection",
    "stepwise_parameters",
    "transfer_price",
]
