"""Time of attention for one new token per sequence: streams of keys and values, split over idle multiprocessors.

Split-KV after Flash-Decoding (Dao, Haziza, Massa, Sizov, 2023-10-13, pytorch.org/blog/flash-decoding).
"""

import numpy as np

from simulator.cost.kernel.silicon import Parameters, Silicon, either
from simulator.cost.kernel.sizes import Array

PARAMETERS = ("launch", "hbm", "feed", "cta", "io", "comb", "smax", "chunk", "seq", "wide")
_REFERENCE_DIM = 128.0
_ROWS = 64.0
"""Query heads of one kv head that one thread block takes together."""


def decode_s(
    facts: Silicon,
    sequences: Array,
    keys: tuple[Array, Array],
    heads: tuple[Array, Array],
    head_dim: Array,
    element_bytes: Array,
    p: Parameters,
) -> Array:
    """Seconds; `keys` is the mean number of keys of a sequence, (those the split is planned for, those it reads)."""
    q, g = heads
    planned, read = keys
    units = np.maximum(sequences * g * np.ceil(q / np.maximum(g, 1e-9) / _ROWS), 1e-9)
    stream_bytes = 2.0 * read * head_dim * element_bytes
    most = np.maximum(1.0, np.minimum(planned / (p["chunk"] * 64.0), p["smax"]))
    splits = np.clip(2.0 * facts.sm_count / units, 1.0, most)
    stream = stream_bytes / splits / p["feed"]
    memory = sequences * g * stream_bytes / (facts.hbm_bytes_per_s * p["hbm"])
    blocks = p["cta"] * p["wide"] ** np.log2(head_dim / _REFERENCE_DIM) * units * splits / facts.sm_count
    in_out = sequences * q * head_dim * 4.0 / facts.hbm_bytes_per_s * p["io"]
    overhead = p["launch"] + p["comb"] * (1.0 - 1.0 / splits) + p["seq"] * sequences
    return overhead + either(stream, memory + blocks, 3.0) + in_out
