"""Weights of a model as named float64 arrays: random ones, or read from a checkpoint."""

from simulator.numeric.weights.random import Weights, named_parameters, random_weights

__all__ = ["Weights", "named_parameters", "random_weights"]
