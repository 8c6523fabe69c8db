"""Data-parallel attention ranks that admit prompts in the same step, as TensorRT-LLM's attention_dp_config has it."""

from collections.abc import Sequence

from simulator.serving.batcher import Batcher


class Together:
    """Holds prompts back until every rank has one, or until `together_steps` steps have passed since they last ran.

    Source: github.com/NVIDIA/TensorRT-LLM v1.1, tensorrt_llm/_torch/pyexecutor/py_executor.py, _balance_adp_requests
    (2025-11): its counter runs on in steps without any prompt, and starts anew whenever prompts may run.
    """

    def __init__(self, batchers: Sequence[Batcher]) -> None:
        self._batchers = batchers
        self._steps = batchers[0].policy.together_steps if len(batchers) > 1 else 0
        self._waited = 0
        self._free = True

    def before_plan(self) -> int | None:
        """Hold prompts back or let them go. Returns how far the next step may leap at most; None: as far as it can."""
        if not self._steps:
            return None
        ready = [batcher.ready for batcher in self._batchers]
        late = self._waited + 1 >= self._steps
        self._free = all(ready) or late or not any(batcher.decodes for batcher in self._batchers)
        for batcher in self._batchers:
            batcher.hold = not self._free
        return None if self._free or not any(ready) else self._steps - 1 - self._waited

    def ran(self, steps: int) -> None:
        """The step ran so many times."""
        if self._steps:
            self._waited = 0 if self._free else (self._waited + steps) % self._steps
