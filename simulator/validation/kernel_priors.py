"""What is believed of the kernel parameters before any row is seen: centres and spreads (of the natural logarithm).

Centres are round figures of an NVIDIA data-centre GPU: efficiencies of 60 to 90 % of the datasheet, launches of
microseconds, 50 to 150 GB/s that one multiprocessor can stream. Times in seconds. Spreads say how far a generation,
a format or an engine may differ; upper limits are physical: no fraction of a datasheet rate above 98 %.
"""

from dataclasses import dataclass

UPPER = {"mma": 0.98, "hbm": 0.98, "wave": 1.0}
"""Largest value of a parameter; others have none."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Centre of a parameter, and standard deviation of its logarithm."""

    centre: float
    spread: float


PRIORS: dict[str, dict[str, Prior]] = {
    "gemm": {
        "launch": Prior(2.2e-6, 0.6),
        "mma": Prior(0.72, 0.25),
        "hbm": Prior(0.80, 0.15),
        "feed": Prior(60e9, 0.8),
        "l2": Prior(130e9, 0.8),
        "tile": Prior(0.6e-6, 0.7),
        "wave": Prior(0.7, 0.4),
        "split": Prior(5e-6, 1.0),
        "quant": Prior(1.7e-6, 1.0),
        "ridge": Prior(2.5, 0.3),
    },
    "prefill": {
        "launch": Prior(11e-6, 0.5),
        "mma": Prior(0.70, 0.3),
        "exp": Prior(5e-12, 0.7),
        "tile": Prior(1e-6, 0.7),
        "pass": Prior(1.5, 0.7),
        "passkv": Prior(2.5, 0.8),
        "token": Prior(0.5e-9, 1.5),
        "wide": Prior(1.0, 0.3),
        "pad": Prior(1.0, 0.5),
        "outside": Prior(0.2, 1.0),
    },
    "decode": {
        "launch": Prior(9e-6, 0.3),
        "hbm": Prior(0.85, 0.15),
        "feed": Prior(60e9, 0.6),
        "cta": Prior(1e-6, 0.8),
        "io": Prior(2.0, 0.7),
        "comb": Prior(2e-6, 0.7),
        "smax": Prior(32.0, 0.4),
        "chunk": Prior(2.0, 0.5),
        "seq": Prior(2e-9, 1.0),
        "wide": Prior(1.3, 0.3),
    },
    "latent_prefill": {
        "launch": Prior(14e-6, 0.4),
        "mma": Prior(0.70, 0.3),
        "exp": Prior(5e-12, 0.9),
        "tile": Prior(1e-6, 0.7),
        "pass": Prior(1.5, 0.7),
        "passkv": Prior(2.0, 0.8),
        "pad": Prior(1.0, 0.5),
        "seq": Prior(0.1e-6, 1.5),
    },
    "latent_decode": {
        "launch": Prior(7e-6, 0.3),
        "hbm": Prior(0.85, 0.1),
        "key": Prior(10e-9, 1.5),
        "mma": Prior(0.65, 0.15),
        "cta": Prior(2.5e-6, 0.6),
        "head": Prior(0.7e-6, 0.7),
        "comb": Prior(1e-6, 0.7),
        "combh": Prior(1e-6, 0.7),
        "chunk": Prior(4.0, 1.2),
        "conv": Prior(8.0, 0.7),
    },
    "experts": {
        "launch": Prior(24e-6, 0.4),
        "mma": Prior(0.55, 0.3),
        "hbm": Prior(0.85, 0.1),
        "feed": Prior(100e9, 0.8),
        "tile": Prior(0.15e-6, 0.3),
        "aux": Prior(1.2, 0.8),
        "out": Prior(3.0, 0.8),
        "route": Prior(1.0, 1.0),
        "expert": Prior(10e-9, 1.0),
        "tok": Prior(0.4e-9, 1.5),
    },
}
