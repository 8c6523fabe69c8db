"""What the batcher keeps of a request, and what it says about a step."""

from typing import NamedTuple


class Held:
    """A request inside the machine."""

    __slots__ = (
        "computed", "emitted", "finish", "hashes", "held", "id", "input_tokens", "joined", "order", "output_tokens",
        "pages", "park", "priority", "swapped", "target",
    )  # fmt: skip

    def __init__(self, number: int, input_tokens: int, output_tokens: int, hashes: tuple[int, ...]) -> None:
        self.id, self.input_tokens, self.output_tokens, self.hashes = number, input_tokens, output_tokens, hashes
        self.emitted = 0
        """Tokens answered when it last joined or left the decodes; more by now, if it is among them."""
        self.target = input_tokens
        """Tokens to compute before the next one is emitted: the prompt, and after a preemption its answer so far."""
        self.computed = 0
        self.pages = 0
        """Private pages taken at admission."""
        self.held = 0
        """Leading prefix blocks it shares."""
        self.joined = -1
        """Ticks done when it joined the decodes; -1: not decoding."""
        self.finish = -1
        self.order = 0
        self.priority = 0
        """Its class: lower ones are admitted first and preempted last."""
        self.swapped = 0
        """Pages of host memory that hold its KV."""
        self.park = False
        """Its pages outlive it, until its KV has been fetched."""


class Step(NamedTuple):
    """What to run next. Idle: no chunk and no decode."""

    chunks: tuple[tuple[int, int, int], ...]
    """(request, new tokens, tokens before them) of each prompt chunk."""
    decodes: int
    decode_kv_tokens: float
    """KV tokens that the decodes read, their own new ones included; with drafts, fractions of a token that have not
    been emitted yet too, so that they rise evenly."""
    leap: int
    """So many times can this step be repeated, its decodes one token longer each time, before a decision is due;
    1 where there are chunks."""
    preempted: tuple[int, ...]
    tokens_per_step: float = 1.0
    """Expected tokens that a decode gains a step."""
    fetch_s: float = 0.0
    """Time to fetch prefix blocks from lower tiers, layer by layer beside the computing: the step takes no less."""
    swap_s: float = 0.0
    """Time to move the KV of swapped sequences, during which nothing else runs."""
    resumed: int = 0
    """Sequences that come back from host memory."""

    @property
    def idle(self) -> bool:
        """Nothing to run."""
        return not self.chunks and not self.decodes and not self.resumed

    @property
    def plain(self) -> bool:
        """Nothing but decodes."""
        return not self.chunks and not self.resumed and not self.swap_s


class Outcome(NamedTuple):
    """Who emitted because of a chunk, and who is done."""

    emitted: tuple[int, ...]
    """Requests whose prompt is complete: their first token, or, after a preemption, the next one."""
    finished: tuple[int, ...]
    resumed: tuple[int, ...] = ()
    """Requests that decode on from the next step, their KV swapped in."""
