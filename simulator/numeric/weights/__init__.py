"""Weights of a model as named float64 arrays: random ones, or read from a checkpoint."""

from simulator.numeric.weights.random import Weights, named_parameters, random_weights
from simulator.numeric.weights.safetensors_file import load_safetensors
from simulator.numeric.weights.state_dict import weights_from_state_dict

__all__ = ["Weights", "load_safetensors", "named_parameters", "random_weights", "weights_from_state_dict"]
