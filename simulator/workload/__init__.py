"""What clients ask for: lengths, arrivals, closed loops, traces, conversations; no time of any machine in here."""

from simulator.workload.arrivals import constant_arrivals, gamma_arrivals, poisson_arrivals
from simulator.workload.bench_file import read_vllm_result
from simulator.workload.closed_loop import ClosedLoop, closed_loop
from simulator.workload.conversations import Conversation, Retrieval, Tools, Wait, conversations
from simulator.workload.curve import curve_arrivals, day_curve
from simulator.workload.lengths import Law, fixed_lengths, read_lengths_csv, uniform_lengths
from simulator.workload.requests import Requests
from simulator.workload.servegen import read_servegen
from simulator.workload.streams import stream
from simulator.workload.traces import read_azure_csv, read_burstgpt_csv, read_mooncake_jsonl

__all__ = [
    "ClosedLoop",
    "Conversation",
    "Law",
    "Requests",
    "Retrieval",
    "Tools",
    "Wait",
    "closed_loop",
    "constant_arrivals",
    "conversations",
    "curve_arrivals",
    "day_curve",
    "fixed_lengths",
    "gamma_arrivals",
    "poisson_arrivals",
    "read_azure_csv",
    "read_burstgpt_csv",
    "read_lengths_csv",
    "read_mooncake_jsonl",
    "read_servegen",
    "read_vllm_result",
    "stream",
    "uniform_lengths",
]
