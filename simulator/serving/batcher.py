"""Continuous batching as a pure machine.

`arrive` puts a request in the queue, `plan` decides the next step, `complete` says that it ran. Between `plan` and
`complete` only `arrive` may be called. Decoding sequences are not touched step by step: `complete(steps=k)` moves all
of them at once, in time that does not grow with k (`simulator.serving.decodes`). A sequence that is done within a step
leaves with it; what the step brought beyond its answer is dropped, as engines do.
"""

from collections import deque

from simulator.serving.admission import check_request, enqueue, most_tokens, too_few, victim
from simulator.serving.blocks import KvBlocks
from simulator.serving.decodes import Decodes
from simulator.serving.held import Held, Outcome, Step
from simulator.serving.policy import Policy
from simulator.serving.prefix import PrefixCache

__all__ = ["Batcher", "Held", "Outcome", "Step"]

_FAR = 1 << 62


class Batcher:
    """The scheduler of one replica (or of one data-parallel attention rank)."""

    def __init__(self, policy: Policy, blocks: KvBlocks) -> None:
        self.policy, self.blocks = policy, blocks
        self.waiting: deque[Held] = deque()
        self.unseen: deque[Held] = deque()
        """Arrived since the machine last looked."""
        self.running: dict[int, Held] = {}
        """Requests that hold pages, in order of admission."""
        self.prefilling: deque[Held] = deque()
        self.incoming: dict[int, Held] = {}
        """Requests that hold pages for KV that another replica sends."""
        self.parked: dict[int, Held] = {}
        """Finished requests whose KV is still to be fetched."""
        self.arrived = self.finished = 0
        self.decoding = Decodes(policy)
        self.reserved_tokens = 0
        """Targets of the requests that are prefilling or on their way here."""
        self._chunks: list[tuple[Held, int]] = []
        self.resuming: list[Held] = []
        """Admitted with their KV in host memory: they decode after the step that brings it."""
        self._fetch_s = self._swap_s = 0.0
        self._planned_decodes = self._planned_leap = 0
        self.hold = False
        """Set by who runs several ranks: no new prompt in the next step."""
        self._waited = 0
        """Steps for which prompts have waited for more of them."""
        self._waits = False
        self._looked = 0
        """Decode steps done at some look; the others are poll_steps apart."""

    @property
    def decodes(self) -> int:
        """Sequences that decode."""
        return self.decoding.count

    @property
    def ticks(self) -> int:
        """Tokens that a sequence would have emitted that decoded in all steps so far."""
        return self.decoding.ticks

    @property
    def kv_tokens(self) -> int:
        """KV tokens of the decoding sequences."""
        return self.decoding.kv_tokens

    @property
    def outstanding(self) -> int:
        """Tokens that running requests have yet to emit."""
        return self.decoding.outstanding

    @property
    def in_flight(self) -> int:
        """Requests that are waiting, running or on their way here."""
        return len(self.unseen) + len(self.waiting) + len(self.running) + len(self.incoming)

    # ---- events -----------------------------------------------------------------------------------------------

    def arrive(
        self, number: int, input_tokens: int, output_tokens: int, hashes: tuple[int, ...] = (), *, park: bool = False,
        priority: int = 0,
    ) -> None:  # fmt: skip
        """A request comes. `park`: its pages stay after its last token, until `let_go`. `priority`: lower go first.

        Raises WorkloadError for one that this machine could never answer.
        """
        check_request(self.policy, self.blocks, number, input_tokens, output_tokens)
        self.arrived += 1
        held = Held(number, input_tokens, output_tokens, hashes)
        held.park, held.priority = park, priority
        if self.policy.poll_steps > 1:
            self.unseen.append(held)
        else:
            enqueue(self.waiting, held)

    def plan(self) -> Step:
        """Decide the next step. Pages are taken for the prompts it admits, and freed by whom it preempts."""
        policy = self.policy
        if self.unseen and not self._until_look():
            while self.unseen:
                enqueue(self.waiting, self.unseen.popleft())
        preempted: list[int] = []
        decodes = 0
        self._fetch_s = self._swap_s = 0.0
        if policy.mixed:
            preempted = self._make_room()
            decodes = self.decoding.count
            budget = policy.max_batched_tokens - decodes * (1 + policy.draft_tokens)
            self._waits = policy.wait_steps > 0 and self._wait()
            self._choose(budget, self.decoding.growth(), admit=not (preempted or self.hold or self._waits))
        else:
            self._choose(policy.max_batched_tokens, 0, admit=not self.hold)
            if not self._chunks:
                preempted = self._make_room()
                decodes = self.decoding.count
        self._planned_decodes = decodes
        chunks = tuple([(held.id, new, held.computed) for held, new in self._chunks])
        leap = 1
        if decodes and not chunks and not preempted and not self.resuming:
            leap = self.decoding.leap(self.blocks.available, self._until_look() if self.unseen else _FAR)
        if self._waits:
            leap = min(leap, policy.wait_steps - self._waited)
        self._planned_leap = leap
        sequences, gain = self.decoding, policy.tokens_per_step
        reads: float = sequences.kv_tokens + decodes
        if gain != 1.0:
            reads += decodes * (sequences.steps * gain - sequences.ticks)
        if not self._fetch_s and not self._swap_s and not self.resuming:
            return Step(chunks, decodes, reads, leap, tuple(preempted), gain)
        return Step(
            chunks, decodes, reads, leap, tuple(preempted), gain, self._fetch_s, self._swap_s, len(self.resuming)
        )  # fmt: skip

    def complete(self, steps: int = 1) -> Outcome:
        """The planned step ran, `steps` times (at most its leap)."""
        decodes = self._planned_decodes
        finished: list[int] = []
        self._waited = self._waited + steps if self._waits else 0
        if decodes:
            for held in self.decoding.run(steps, self.blocks):
                self._release(held)
                finished.append(held.id)
                self.finished += 1
        emitted: list[int] = []
        if self._chunks:
            self._looked = self.decoding.steps
        for held, new in self._chunks:
            held.computed += new
            if held.computed == held.target:
                emitted.append(held.id)
                self._prefilled(held, finished)
        self._chunks, self._planned_decodes = [], 0
        if not self.resuming:
            return Outcome(tuple(emitted), tuple(finished))
        resumed, self.resuming = self.resuming, []
        for held in resumed:
            self.reserved_tokens -= held.target
            self.decoding.join(held)
        return Outcome(tuple(emitted), tuple(finished), tuple([held.id for held in resumed]))

    # ---- KV from and to other replicas ------------------------------------------------------------------------

    def reserve(
        self, number: int, input_tokens: int, output_tokens: int, *, emitted: int = 1, priority: int = 0
    ) -> bool:
        """Take pages for a request whose prompt is computed elsewhere; False: there is no room now. Called after
        `plan`, whose step keeps its pages.

        `emitted`: tokens answered when it will `join`: 1, or 0 where the last prompt token is computed here again.
        """
        policy, blocks = self.policy, self.blocks
        kept = input_tokens if emitted else max(1, input_tokens - 1)
        left = output_tokens - emitted
        if self.waiting or len(self.running) + len(self.incoming) >= policy.max_sequences:
            return False
        room = blocks.capacity * policy.block_tokens - self.decoding.kv_tokens - self.reserved_tokens
        busy = self.running or self.incoming
        if policy.headroom and busy and kept + policy.headroom * (left + self.decoding.outstanding) > room:
            return False
        need = blocks.pages(most_tokens(policy, input_tokens, output_tokens) if policy.reserve == "whole" else kept)
        free = blocks.available - need
        if self._planned_decodes:
            ticks = policy.ticks(self.decoding.steps + self._planned_leap) - self.decoding.ticks
            enough = self.decoding.count * (ticks // policy.block_tokens + 1) <= free
            if not enough and self.decoding.growth(self._planned_leap) > free:
                return False
        elif free < 0:
            return False
        blocks.take(need)
        held = Held(number, input_tokens, output_tokens, ())
        held.emitted, held.target, held.pages, held.priority = emitted, kept, need, priority
        self.incoming[number] = held
        self.arrived += 1
        self.reserved_tokens += kept
        return True

    def join(self, number: int) -> None:
        """A reserved request's KV is here: it decodes from the next step on. Called before `plan`."""
        held = self.incoming.pop(number)
        self.reserved_tokens -= held.target
        self.running[number] = held
        self.decoding.admitted(held, held.output_tokens - held.emitted)
        self.decoding.join(held)

    def forget(self, number: int) -> None:
        """A reserved request's KV will not come."""
        held = self.incoming.pop(number)
        self.reserved_tokens -= held.target
        self._free(held)
        self.arrived -= 1

    def let_go(self, number: int) -> None:
        """A parked request's KV has been fetched."""
        self._free(self.parked.pop(number))

    def _until_look(self) -> int:
        """Decode steps until the machine looks for new requests; 0: now."""
        if not self.running and not self.waiting:
            return 0
        return (self._looked - self.decoding.steps) % self.policy.poll_steps

    def _release(self, held: Held) -> None:
        self._free(held)
        del self.running[held.id]

    def _free(self, held: Held) -> None:
        self.blocks.give(held.pages)
        if held.held and self.blocks.prefix is not None:
            self.blocks.prefix.release(held.hashes[: held.held])
        held.pages = held.held = 0

    # ---- preemption -------------------------------------------------------------------------------------------

    def _make_room(self) -> list[int]:
        """Preempt the youngest of the highest class until the decodes' next tokens have pages."""
        preempted: list[int] = []
        policy = self.policy
        while self.decoding.growth() > self.blocks.available:
            held = victim(self.running)
            tokens = 0
            if held.joined >= 0:
                self.decoding.leave(held, self.blocks)
                tokens = held.input_tokens + held.emitted - 1
            else:
                self.prefilling.remove(held)
                self.reserved_tokens -= held.target
            self.decoding.outstanding -= held.output_tokens - held.emitted
            self._release(held)
            held.target, held.computed = held.input_tokens + held.emitted, 0
            if tokens and policy.preempt == "swap" and self._swap_out(held, tokens):
                held.target = tokens
            enqueue(self.waiting, held, first=True)
            preempted.append(held.id)
        return preempted

    def _swap_out(self, held: Held, tokens: int) -> bool:
        """Move a sequence's KV to host memory; False: there is no room."""
        swap, pages = self.blocks.swap, self.blocks.pages(tokens)
        if swap is None or swap.used + pages > swap.capacity:
            return False
        swap.used += pages
        held.swapped = pages
        self._swap_s += swap.token_s * tokens
        return True

    def _swap_in(self, held: Held) -> None:
        swap = self.blocks.swap
        assert swap is not None
        swap.used -= held.swapped
        held.swapped = 0
        self._swap_s += swap.token_s * held.target
        self.resuming.append(held)

    # ---- prompts ----------------------------------------------------------------------------------------------

    def _choose(self, budget: int, growth: int, *, admit: bool) -> None:
        """Fill the step's chunks: prompts already begun, then those that can be admitted, in order."""
        chunks = self._chunks = []
        for held in self.prefilling:
            if budget <= 0:
                return
            new = min(held.target - held.computed, budget)
            chunks.append((held, new))
            budget -= new
        while admit and budget > 0 and self.waiting and len(self.running) < self.policy.max_sequences:
            held = self.waiting[0]
            swapped = held.swapped > 0
            if swapped and not growth:  # the decodes may run beside it
                growth = self.decoding.growth()
            if (not self.policy.chunked and held.target > budget and not swapped) or not self._admit(held, growth):
                return
            if swapped:
                continue
            new = min(held.target - held.computed, budget)
            chunks.append((held, new))
            budget -= new

    def _wait(self) -> bool:
        """Whether the prompts at the door wait for more of them."""
        policy = self.policy
        waits = self.decoding.count and self.waiting and self._waited < policy.wait_steps
        return bool(waits) and too_few(policy, self.decoding.count, self.waiting)

    @property
    def ready(self) -> bool:
        """Whether a prompt could start in the next step, as far as sequences and pages go."""
        if not self.waiting or len(self.running) >= self.policy.max_sequences:
            return bool(self.prefilling)
        held, policy = self.waiting[0], self.policy
        whole = policy.reserve == "whole"
        last = most_tokens(policy, held.input_tokens, held.output_tokens) if whole else held.target
        return self.blocks.pages(last) + self.decoding.growth() <= self.blocks.available

    def _admit(self, held: Held, growth: int) -> bool:
        """Take pages for the first waiting request, if there are enough."""
        blocks, policy = self.blocks, self.policy
        left = held.output_tokens - held.emitted
        wanted = held.target + policy.headroom * (left + self.decoding.outstanding)
        room = blocks.capacity * policy.block_tokens - self.decoding.kv_tokens - self.reserved_tokens
        if policy.headroom and self.running and wanted > room:
            return False
        last = most_tokens(policy, held.input_tokens, held.output_tokens) if policy.reserve == "whole" else held.target
        prefix = blocks.prefix
        levels = [] if prefix is None or held.swapped else self._found(held, prefix)
        cached = len(levels) - sum(map(bool, levels))
        hits = held.hashes[: len(levels)]
        here = hits if cached == len(levels) else tuple([b for b, level in zip(hits, levels, strict=True) if not level])
        need = blocks.pages(last) - cached * blocks.prefix_pages
        idle = prefix.idle_among(here) if prefix is not None else 0
        if need + growth > blocks.available - idle * blocks.prefix_pages:
            return False
        fetched = 0
        if prefix is not None and not held.swapped:
            prefix.asked_tokens += held.target
            if levels:
                prefix.hold(here)
                fetched = len(levels) - cached
                self._fetch_s += prefix.fetch(hits, levels)
                held.computed = len(levels) * prefix.block_tokens
        blocks.take(need)
        if fetched and prefix is not None:
            blocks.enter(hits, levels)
        held.pages, held.held = need - fetched * blocks.prefix_pages, len(levels)
        self.waiting.popleft()
        self.running[held.id] = held
        self.decoding.admitted(held, left)
        self.reserved_tokens += held.target
        if held.swapped:
            self._swap_in(held)
        else:
            self.prefilling.append(held)
        return True

    def _found(self, held: Held, prefix: PrefixCache) -> list[int]:
        """Where the leading prefix blocks are that need no computing; the last prompt token is always computed."""
        if not held.hashes:
            return []
        most = (held.target - 1) // prefix.block_tokens
        if prefix.tiers:
            return prefix.levels(held.hashes[:most])
        return [0] * min(prefix.match(held.hashes), most)

    def _prefilled(self, held: Held, finished: list[int]) -> None:
        """A prompt is complete: its request emits a token and decodes on, or is done."""
        self.prefilling.remove(held)
        self.reserved_tokens -= held.target
        self.decoding.outstanding -= 1
        held.emitted += 1
        prefix = self.blocks.prefix
        if prefix is not None and held.hashes:
            whole = held.input_tokens // prefix.block_tokens
            entered = self.blocks.share(held.hashes[held.held : whole])
            held.held += entered
            held.pages -= entered * self.blocks.prefix_pages
        if held.emitted == held.output_tokens:
            if held.park:
                self.parked[held.id] = self.running.pop(held.id)
            else:
                self._release(held)
            finished.append(held.id)
            self.finished += 1
            return
        self.decoding.join(held)
