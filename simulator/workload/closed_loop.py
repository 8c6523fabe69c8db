"""A closed loop: C clients, each sending its next request when the last is answered."""

from dataclasses import dataclass

import numpy as np

from simulator.errors import WorkloadError
from simulator.workload.lengths import fixed_lengths, uniform_lengths
from simulator.workload.requests import Ints, Requests
from simulator.workload.streams import stream


@dataclass(frozen=True, slots=True, eq=False)
class ClosedLoop:
    """`requests` in the order in which free clients take them; all clients are free at 0.

    Warm-up requests are answered before the clock starts and the clock starts on an idle machine, as
    `--num-warmups` does: they change nothing that is measured unless prompts are shared, so they are only counted.
    """

    requests: Requests
    concurrency: int
    warmups: int = 0

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise WorkloadError(where="concurrency", given=str(self.concurrency), rule="must be at least 1")
        if self.warmups < 0:
            raise WorkloadError(where="warm-ups", given=str(self.warmups), rule="must not be negative")


def closed_loop(
    concurrency: int,
    *,
    input_tokens: int,
    output_tokens: int,
    range_ratio: float = 1.0,
    prompts: int | None = None,
    warmups: int | None = None,
    seed: int = 0,
) -> ClosedLoop:
    """The public benchmarks' protocol: by default 10 C prompts after 2 C warm-ups, lengths in [ratio x L, L].

    Input and output lengths come from streams of their own. Raises WorkloadError for counts below 1.
    """
    count = 10 * concurrency if prompts is None else prompts
    if count < 1:
        raise WorkloadError(where="prompts", given=str(count), rule="must be at least 1")

    def lengths(name: str, tokens: int) -> Ints:
        if range_ratio == 1.0:
            return fixed_lengths(tokens, count)
        return uniform_lengths(stream(seed, name), tokens, range_ratio, count)

    drawn = Requests(
        np.zeros(count), lengths("input_tokens", input_tokens), lengths("output_tokens", output_tokens)
    )  # fmt: skip
    return ClosedLoop(drawn, concurrency, 2 * concurrency if warmups is None else warmups)
