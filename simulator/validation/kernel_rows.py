"""Rows of measured kernel tables as inputs of the kernel models: which family, which parameters, which shapes.

Columns are those of `kernels.csv` (aiconfigurator operator tables); outcome columns are not read here.
Conventions: `context_*` is causal prefill from an empty cache; `generation_*` reads `past_kv_len` + 1 keys;
a MoE row counts the tokens of the whole expert-parallel group and times one rank, the one that got most.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from simulator.cost.kernel import choose
from simulator.cost.kernel import decode as decode_model
from simulator.cost.kernel import gemm as gemm_model
from simulator.cost.kernel import grouped as grouped_model
from simulator.cost.kernel import latent as latent_model
from simulator.cost.kernel import prefill as prefill_model
from simulator.cost.kernel.choose import Key
from simulator.cost.kernel.families import QUANTISED, bound_of, gemm_bound, latent_width
from simulator.cost.kernel.formats import FORMATS, canonical, peak_flops_per_s
from simulator.cost.kernel.grouped import ExpertBlock, ExpertRows, expert_rows
from simulator.cost.kernel.silicon import Parameters, Silicon
from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.skew import expert_loads
from simulator.cost.kernel.work import KV_BYTES, Work, causal_pairs, grouped_work
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device

Model = Callable[[Parameters], Array]


@dataclass(frozen=True, slots=True)
class Family:
    """One op of the tables: its parameters, the group of each row, and its model over a frame's rows."""

    name: str
    parameters: tuple[str, ...]
    key: Callable[[Mapping[str, object]], Key]
    model: Callable[[pd.DataFrame], Model]
    bound: Callable[[pd.DataFrame], Array]
    """The roofline of each row, seconds."""
