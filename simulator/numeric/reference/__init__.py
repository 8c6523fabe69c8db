"""The unsharded reference: plain and slow on purpose, and independent of the sharded kernels.

It shares no code with them, so that an error would have to be made twice to go unseen; it is itself checked
against Hugging Face transformers (docs/numerics.md).
"""

from simulator.numeric.reference.attention import LayerCache
from simulator.numeric.reference.model import ReferenceModel, ReferenceStep, SequenceCache

__all__ = ["LayerCache", "ReferenceModel", "ReferenceStep", "SequenceCache"]
