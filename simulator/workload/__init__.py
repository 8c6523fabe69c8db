"""What clients ask for: lengths, arrivals, closed loops, traces; no time of any machine in here."""

from simulator.workload.arrivals import constant_arrivals, gamma_arrivals, poisson_arrivals
from simulator.workload.closed_loop import ClosedLoop, closed_loop
from simulator.workload.lengths import fixed_lengths, uniform_lengths
from simulator.workload.requests import Requests
from simulator.workload.streams import stream
from simulator.workload.traces import read_azure_csv, read_mooncake_jsonl

__all__ = [
    "ClosedLoop",
    "Requests",
    "closed_loop",
    "constant_arrivals",
    "fixed_lengths",
    "gamma_arrivals",
    "poisson_arrivals",
    "read_azure_csv",
    "read_mooncake_jsonl",
    "stream",
    "uniform_lengths",
]
