"""The batcher once more, slowly: every request on its own, one token at a time, pages counted afresh each time."""

from dataclasses import dataclass

from simulator.serving import Policy


@dataclass
class Slow:
    id: int
    input: int
    output: int
    emitted: int = 0
    target: int = 0
    kv: int = 0
    state: str = "waiting"
    priority: int = 0
    swapped: bool = False


class NaiveBatcher:
    def __init__(self, policy: Policy, capacity: int, host: int = 0) -> None:
        self.p, self.capacity, self.host = policy, capacity, host
        self.waiting: list[Slow] = []
        self.running: list[Slow] = []
        self.unseen: list[Slow] = []
        self.since_look = 0
        self.steps = 0
        self.waited = 0

    def pages(self, tokens: int) -> int:
        return (tokens + self.p.block_tokens - 1) // self.p.block_tokens

    def used(self, extra: int = 0) -> int:
        """Pages held, with `extra` more tokens on each decode."""
        drafts = -(-self.p.tokens_per_step // 1) - 1
        total = 0
        for r in self.running:
            if self.p.reserve == "whole":
                total += self.pages(r.input + r.output - 1 + (int(drafts) if r.output > 1 else 0))
            elif r.state == "decoding":
                total += self.pages(r.kv + extra)
            else:
                total += self.pages(r.target)
        return total

    def gain(self) -> int:
        """Tokens that the next decode step brings each sequence."""
        return int((self.steps + 1) * self.p.tokens_per_step) - int(self.steps * self.p.tokens_per_step)

    def arrive(self, number: int, given: int, asked: int, priority: int = 0) -> None:
        self.unseen.append(Slow(number, given, asked, target=given, priority=priority))

    def decoding(self) -> list[Slow]:
        return [r for r in self.running if r.state == "decoding"]

    def make_room(self) -> list[int]:
        out = []
        while self.used(self.gain()) > self.capacity:
            r = max(self.running, key=lambda q: (q.priority, self.running.index(q)))
            self.running.remove(r)
            had = r.kv if r.state == "decoding" else 0
            r.state, r.target, r.kv = "waiting", r.input + r.emitted, 0
            out_there = sum(self.pages(q.target) for q in self.waiting if q.swapped)
            if had and self.p.preempt == "swap" and out_there + self.pages(had) <= self.host:
                r.target, r.swapped = had, True
            self.waiting = sorted([r, *self.waiting], key=lambda q: q.priority)  # a stable sort
            out.append(r.id)
        return out

    def fits(self, r: Slow, extra: int) -> bool:
        owed = sum(q.output - q.emitted for q in self.running) + r.output - r.emitted
        tokens = sum(q.kv if q.state == "decoding" else q.target for q in self.running)
        if self.p.headroom and self.running:
            room = self.capacity * self.p.block_tokens - tokens
            if r.target + self.p.headroom * owed > room:
                return False
        spare = -(-self.p.tokens_per_step // 1) - 1 if r.output > 1 else 0
        need = self.pages(r.input + r.output - 1 + int(spare) if self.p.reserve == "whole" else r.target)
        return need + self.used(extra) <= self.capacity

    def choose(self, budget: int, extra: int, admit: bool) -> list[tuple[Slow, int, int]]:
        chunks = []
        for r in [q for q in self.running if q.state == "prefilling"]:
            if budget > 0:
                chunks.append((r, min(r.target - r.kv, budget), r.kv))
                budget -= chunks[-1][1]
        while admit and budget > 0 and self.waiting and len(self.running) < self.p.max_sequences:
            r = self.waiting[0]
            if r.swapped:
                extra = max(extra, self.gain())
            if (not self.p.chunked and r.target > budget and not r.swapped) or not self.fits(r, extra):
                break
            self.running.append(self.waiting.pop(0))
            if r.swapped:
                r.state, r.swapped = "resuming", False
                continue
            r.state = "prefilling"
            chunks.append((r, min(r.target, budget), 0))
            budget -= chunks[-1][1]
        return chunks

    def step(self) -> tuple[list[tuple[int, int, int]], int, float, list[int], set[int], set[int]]:
        """(chunks, decodes, KV tokens they read, preempted, emitted by chunks, finished)."""
        if self.since_look == 0 or not (self.running or self.waiting):
            self.waiting = sorted(self.waiting + self.unseen, key=lambda q: q.priority)
            self.unseen = []
        preempted: list[int] = []
        if self.p.mixed:
            preempted = self.make_room()
            decoding = self.decoding()
            spent = len(decoding) * (1 + self.p.draft_tokens)
            tokens = len(decoding) + sum(r.target for r in self.waiting)
            few = tokens < self.p.wait_share * self.p.max_batched_tokens
            wait = bool(decoding and self.waiting and self.waited < self.p.wait_steps and few)
            self.waited = self.waited + 1 if wait else 0
            chunks = self.choose(self.p.max_batched_tokens - spent, self.gain(), not preempted and not wait)
        else:
            chunks = self.choose(self.p.max_batched_tokens, 0, True)
            decoding = []
            if not chunks:
                preempted = self.make_room()
                decoding = self.decoding()
        self.since_look = 0 if chunks else (self.since_look + bool(decoding)) % self.p.poll_steps
        part = self.steps * self.p.tokens_per_step % 1.0
        reads = sum(r.kv + 1 + part for r in decoding)
        gain = self.gain()
        for r in decoding:
            r.kv += gain
            r.emitted = min(r.output, r.emitted + gain)
        self.steps += bool(decoding)
        emitted = set()
        self.resumed = [r.id for r in self.running if r.state == "resuming"]
        for r in self.running:
            if r.state == "resuming":
                r.state, r.kv = "decoding", r.target
        for r, new, _ in chunks:
            r.kv += new
            if r.kv == r.target:
                r.state = "decoding"
                r.emitted += 1
                emitted.add(r.id)
        done = {r.id for r in self.running if r.emitted == r.output}
        self.running = [r for r in self.running if r.id not in done]
        return [(r.id, n, past) for r, n, past in chunks], len(decoding), reads, preempted, emitted, done
