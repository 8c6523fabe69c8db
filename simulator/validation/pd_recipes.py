"""How many sequences a decode worker of the public separated TensorRT-LLM runs takes at a time.

The recipes' names say it: ctx1_gen3_tep8_batch4_..._18 is one prefill worker, three decode workers of eight GPUs with
at most 4 sequences each, asked by 18 clients. What is beyond waits for a slot with its prompt computed, so the time to
the first token holds whole answers of others.

Source: github.com/SemiAnalysisAI/InferenceX, .github/configs/nvidia-master.yaml (commit 0004cf5, read 2026-11-24), its
dsr1-*-dynamo-trt entries: conc-list and the recipe that each names, from github.com/NVIDIA/srt-slurm, recipes/trtllm.
"""

from typing import Any

from simulator.validation.launch_settings import documented, speculates
from simulator.validation.links import text

SINCE = "2026-01-28"
"""Date of the first runs by these recipes; earlier ones swept all concurrencies on one server."""
FINE = 48
"""From here on sizes of 3 x 2^k are used beside powers of two."""
SWEPT: dict[tuple[str, str, int, int, bool, int, int], tuple[int, frozenset[int]]] = {
    # GPU, precision, prompt, answer, drafts, decode workers, GPUs of one: sequences a rank, and the clients asked.
    ("B200", "fp4", 1024, 1024, True, 5, 8): (32, frozenset({10, 15, 25, 45, 90, 180})),
    ("B200", "fp4", 1024, 1024, False, 5, 8): (32, frozenset({10, 15, 25, 45, 90, 180})),
    ("B200", "fp4", 8192, 1024, True, 5, 8): (8, frozenset({10, 15, 30, 60})),
    ("B200", "fp4", 8192, 1024, False, 5, 8): (8, frozenset({10, 15, 25, 50, 100})),
    ("B200", "fp4", 8192, 1024, True, 1, 8): (192, frozenset({1096, 1691})),
    ("B300", "fp4", 1024, 1024, True, 5, 8): (32, frozenset({10, 20, 25, 60, 120, 200})),
    ("B300", "fp4", 1024, 1024, False, 5, 4): (4, frozenset({5, 10, 15, 25})),
    ("B300", "fp4", 1024, 1024, False, 5, 8): (64, frozenset({60, 110, 195, 395})),
    ("GB200", "fp4", 1024, 1024, True, 4, 8): (8, frozenset({4, 8, 12, 24, 48})),
    ("GB200", "fp4", 1024, 1024, False, 4, 8): (32, frozenset({12, 24, 48, 96, 192})),
    ("GB200", "fp4", 1024, 8192, True, 7, 8): (4, frozenset({4, 8, 12, 24, 48})),
    ("GB200", "fp4", 8192, 1024, True, 4, 8): (8, frozenset({4, 8, 12, 24, 48})),
    ("GB200", "fp4", 8192, 1024, False, 4, 8): (16, frozenset({12, 44, 76})),
    ("GB200", "fp8", 1024, 8192, True, 4, 8): (2, frozenset({4, 8})),
    ("GB300", "fp4", 1024, 1024, True, 4, 8): (8, frozenset({8, 12, 24, 48})),
    ("GB300", "fp4", 1024, 1024, False, 4, 8): (32, frozenset({12, 48, 96, 192})),
    ("GB300", "fp4", 8192, 1024, True, 4, 8): (4, frozenset({12, 24})),
    ("GB300", "fp4", 8192, 1024, False, 5, 4): (4, frozenset({5, 15, 30})),
    ("B300", "fp4", 8192, 1024, True, 4, 8): (1, frozenset({8})),
    ("B300", "fp8", 8192, 1024, True, 4, 8): (1, frozenset({8})),
    ("H100", "fp8", 1024, 1024, True, 3, 16): (1, frozenset({6})),
    ("H100", "fp8", 1024, 1024, False, 3, 16): (1, frozenset({6})),
    ("H100", "fp8", 8192, 1024, True, 3, 16): (1, frozenset({6})),
    ("H100", "fp8", 8192, 1024, False, 3, 16): (1, frozenset({6})),
    ("GB200", "fp8", 8192, 1024, False, 3, 8): (1, frozenset({6})),
    ("GB300", "fp8", 1024, 1024, True, 4, 8): (1, frozenset({8})),
    ("GB300", "fp8", 8192, 1024, True, 4, 8): (1, frozenset({8})),
}
"""Recipes that several concurrencies share, or that have fewer slots than `largest_size` says."""


def decode_sequences(row: Any) -> int | None:
    """Sequences of one attention rank of a decode worker; None: the engine's own limit.

    A recipe for one concurrency has the largest size whose slots these clients fill (200 of the 230 in the source).
    Those for H200 (recipes/trtllm/h200, c1_ to c512_, a concurrency for each decode worker) have 1, or far more than
    they need.
    """
    date = text(row.date).removeprefix("dump ")
    if not documented(row) or date < SINCE or "DeepSeek" not in text(row.model):
        return None
    clients, workers = int(row.concurrency), int(row.decode_workers)
    ranks = int(row.decode_dp_attention)
    gpus = ranks * int(row.decode_tp)
    gpu = text(row.gpu).split("-")[0]
    lengths = int(row.isl_nominal), int(row.osl_nominal)
    swept = SWEPT.get((gpu, text(row.precision), *lengths, speculates(row), workers, gpus))
    if swept is not None and clients in swept[1]:
        return swept[0]
    if gpu == "H200":
        return 1 if clients < 2 * workers else None
    return largest_size(clients / (workers * ranks))


def largest_size(room: float) -> int:
    """The largest size of a recipe up to `room`; at least 1.

    >>> [largest_size(room) for room in (0.6, 6, 60, 81, 200, 806)]
    [1, 4, 48, 64, 192, 768]
    """
    size = 1
    while 2 * size <= room:
        size *= 2
    between = 3 * size // 2
    return between if FINE <= between <= room else size
