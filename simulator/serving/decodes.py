"""Sequences that decode, all moved at once: what they hold, when they end, how many pages their next tokens need.

The clock counts *ticks*, tokens that a sequence has emitted that decoded in all steps: one a step, or several where
drafted tokens are verified with the next one. A sequence remembers the tick at which it joined, so that running k steps
costs the same whatever k is.
"""

from heapq import heappop, heappush

from simulator.serving.blocks import KvBlocks
from simulator.serving.held import Held
from simulator.serving.policy import Policy


class Decodes:
    """The decoding sequences of one batcher."""

    __slots__ = ("_due", "_finish", "_orders", "count", "kv_tokens", "outstanding", "policy", "steps", "ticks", "whole")

    def __init__(self, policy: Policy) -> None:
        self.policy, self.whole = policy, policy.reserve == "whole"
        self.count = 0
        self.kv_tokens = 0
        """KV tokens of these sequences."""
        self.outstanding = 0
        """Tokens that running requests, these and those still in their prompts, have yet to emit."""
        self.steps = 0
        """Steps with decodes so far."""
        self.ticks = 0
        """Tokens that a sequence would have emitted that decoded in all of them."""
        self._due = [0] * policy.block_tokens
        """_due[i]: sequences that need a new page before tick t where t = i modulo block_tokens."""
        self._finish: list[tuple[int, int, Held]] = []
        self._orders = 0

    def gain(self, steps: int) -> int:
        """Tokens that each sequence gets in the next `steps` steps."""
        return steps if self.policy.tokens_per_step == 1.0 else self.policy.ticks(self.steps + steps) - self.ticks

    def growth(self, steps: int = 1) -> int:
        """Pages that the sequences need for the tokens of their next `steps` steps."""
        if self.whole or not self.count:
            return 0
        due, size = self._due, self.policy.block_tokens
        ticks = self.gain(steps)
        if ticks == 1:
            return due[self.ticks % size]
        rounds, rest = divmod(ticks, size)
        start = self.ticks % size
        end = start + rest
        part = sum(due[start:end]) if end <= size else sum(due[start:]) + sum(due[: end - size])
        return rounds * self.count + part

    def leap(self, available: int, most: int) -> int:
        """Steps, at most `most`, until the first sequence is done, or until so many pages run out."""
        policy = self.policy
        steps = min(policy.steps_to(self._first_finish()) - self.steps, most)
        if self.whole:
            return steps
        size = policy.block_tokens
        ticks = self.gain(steps)
        if self.count * (ticks // size + 1) <= available:
            return steps
        rounds = available // self.count  # every `size` ticks, each sequence takes exactly one page
        grown, done = rounds * self.count, rounds * size
        while done < ticks:
            grown += self._due[(self.ticks + done) % size]
            if grown > available:
                return policy.steps_to(self.ticks + done + 1) - 1 - self.steps
            done += 1
        return steps

    def run(self, steps: int, blocks: KvBlocks) -> list[Held]:
        """So many steps ran; whoever is done with them leaves."""
        blocks.take(self.growth(steps))
        self.steps += steps
        ticks = self.policy.ticks(self.steps)
        self.kv_tokens += self.count * (ticks - self.ticks)
        self.outstanding -= self.count * (ticks - self.ticks)
        self.ticks = ticks
        done: list[Held] = []
        heap = self._finish
        while heap and heap[0][0] <= ticks:
            finish, _, held = heappop(heap)
            if held.finish == finish:
                self.leave(held, blocks)
                done.append(held)
        return done

    def admitted(self, held: Held, owed: int) -> None:
        """A request runs from now on, and owes so many tokens."""
        self._orders += 1
        held.order = self._orders
        self.outstanding += owed

    def join(self, held: Held) -> None:
        """A sequence decodes from the next step on."""
        held.joined = self.ticks
        held.finish = self.ticks + held.output_tokens - held.emitted
        heappush(self._finish, (held.finish, held.order, held))
        self._due[(held.joined - held.target) % self.policy.block_tokens] += 1
        self.count += 1
        self.kv_tokens += held.target

    def leave(self, held: Held, blocks: KvBlocks) -> None:
        """A sequence stops decoding, done or preempted; its pages stay."""
        done = self.ticks - held.joined
        self._due[(held.joined - held.target) % self.policy.block_tokens] -= 1
        self.count -= 1
        self.kv_tokens -= held.target + done
        dropped = max(0, held.emitted + done - held.output_tokens)
        self.outstanding += dropped
        held.emitted += done - dropped
        if not self.whole:
            held.pages += blocks.pages(held.target + done) - blocks.pages(held.target)
        held.joined = held.finish = -1

    def _first_finish(self) -> int:
        heap = self._finish
        while heap[0][2].finish != heap[0][0]:
            heappop(heap)
        return heap[0][0]
