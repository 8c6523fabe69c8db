"""shardsim: runs the sharded computation of a large language model, and prices it."""

__version__ = "0.1.0"
