"""Collectives read as time: NCCL's choice, fitted stages, engine kernels, expert exchange, KV transfer."""

from simulator.cost.collective.price import collective_price, collective_times, selection
from simulator.cost.collective.stepwise import StepwiseParameters, stepwise_parameters

__all__ = ["StepwiseParameters", "collective_price", "collective_times", "selection", "stepwise_parameters"]
