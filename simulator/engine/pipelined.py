"""Steps of a pipeline-parallel replica whose stages work on different micro-batches at the same time."""

from simulator.cost.table.table import StepLoad, StepTable
from simulator.errors import LayoutError


class Pipelined:
    """A StepTime of `table.direct.setup.layout.pp` stages that are all kept busy.

    The engine has as many batches in flight as stages (vLLM v0.11, v1/engine/core.py, batch_queue; 2025-10): its
    sequences are dealt over them, and a batch enters the pipeline as the one before it leaves the first stage. So a
    round, in which every sequence moves once, takes pp times the slowest stage with a batch's part of the work; there
    is no filling and draining between rounds. With fewer sequences than stages some stages wait: one alone takes what
    all stages take. A prompt is dealt over the batches like everything else, which holds the throughput right where
    others fill the pipeline, and shows one prompt among many sooner than its own chunk would.

    Raises LayoutError for a table of one stage.
    """

    def __init__(self, table: StepTable) -> None:
        self.table, self.stages = table, table.direct.setup.layout.pp
        if self.stages < 2:
            raise LayoutError(where="pp", given=str(self.stages), rule="micro-batches overlap over two stages or more")

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """Seconds of a round, in the arguments of `simulator.engine.step_time.StepTime`."""
        prompts = prefill_sequences if prefill_tokens else 0
        batches = max(1, min(self.stages, prompts + decode_sequences))
        new = -(-prefill_tokens // batches)
        part = StepLoad(
            new, -(-prefill_context // batches), -(-decode_sequences // batches),
            -(-decode_kv_tokens // batches), max(1, min(-(-prompts // batches), new)),
        )  # fmt: skip
        return self.stages * self.table.stage_time_s(part)
