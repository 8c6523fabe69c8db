"""A step-time table: one number, or millions, by look-up; exact where tabulated, priced op by op beyond its reach."""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.cost.table.compose import blended, device_s, evened, host_joined_s, overlapped_s
from simulator.cost.table.direct import DirectPricer, Part
from simulator.cost.table.lines import Rows, StageLines
from simulator.cost.table.options import TableOptions
from simulator.errors import WorkloadError

Array = NDArray[np.float64]
CHUNK = 16_384
"""Elements that are looked up together, so that what lies between stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What is tabulated: new tokens of a step, decoding sequences, cached tokens of each."""

    tokens: int
    sequences: int
    context: int
    verified: int
    """New tokens of each decoding sequence: 1, or the drafted ones and the next."""


@dataclass(frozen=True, slots=True)
class StepLoad:
    """The batch of one step (of one data-parallel coordinate).

    `prefill_context` and `decode_kv_tokens` are sums over the sequences: tokens cached before the step, and tokens
    read in it, the new one included.
    """

    prefill_tokens: int = 0
    prefill_context: int = 0
    decode_sequences: int = 0
    decode_kv_tokens: int = 0
    prefill_sequences: int = 1
    fill: float = 1.0
    """New tokens of all data-parallel attention ranks over what they would be if each had this rank's; counts in steps
    with prompts (graphs of decode steps are padded up to the busiest rank)."""

    def check(self) -> None:
        """Raise WorkloadError for a batch that cannot be."""
        if min(self.prefill_tokens, self.prefill_context, self.decode_sequences, self.decode_kv_tokens) < 0:
            raise WorkloadError(where="step", given=str(self), rule="tokens and sequences are not negative")
        if not 0.0 < self.fill <= 1.0:
            raise WorkloadError(where="fill", given=f"{self.fill:g}", rule="above 0, at most 1")
        if self.prefill_tokens and not 1 <= self.prefill_sequences <= self.prefill_tokens:
            raise WorkloadError(where="step", given=str(self), rule="each prefilled sequence brings a token or more")


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """A step's time with its parts, in seconds, and how far to trust it."""

    time_s: float
    body_s: float
    """GEMMs, norms, collectives: everything over the tokens of the step."""
    prefill_attention_s: float
    decode_attention_s: float
    head_s: float
    host_s: float
    launch_bound: bool
    """The device waited for eager launches."""
    provenance: str
    """"tabulated": inside the table; "exact": priced op by op, beyond it."""
    error: float
    """Expected relative error: the parts' own, weighted by their time, and the engine profile's, as independent."""


class StepTable:
    """Built by `build_table`. Time of a step, from the first kernel to the last or from step to step."""

    def __init__(
        self, direct: DirectPricer, options: TableOptions, reach: Reach, stages: tuple[StageLines, ...]
    ) -> None:
        self.direct, self.options, self.reach, self.stages = direct, options, reach, stages
        self.engine = direct.setup.engine
        draft = options.speculation
        self.tokens_per_step = draft.tokens_per_step if draft else 1.0
        self._draft = 1.0 + draft.tokens * draft.draft_share if draft else 1.0
        self._micro = direct.setup.layout.micro_batches
        self._ranks = direct.setup.layout.dp_attention
        self.ranked = self._ranks > 1
        self._largest_graph = self.engine.graph_sizes[-1] if self.engine.graph_sizes else 0
        self._eager_s = [stage.launches * self.engine.launch_s for stage in stages]
        self._rows: dict[float, list[Rows]] = {}
        first = stages[0]
        lines = self._bodies(options.expert_skews[0])[0]
        self._decode: list[float] = lines.decode.time_s.tolist()
        self._prompts = lines
        self._prefill: list[float] = lines.prefill.time_s.tolist()
        self._uneven = lines.even is not None
        self._head: list[float] = first.head.tolist()
        self._plane, self._box, self._floor_s = first.plane, first.box, self._eager_s[0]
        one = len(stages) == 1 and first.times == 1 and self._micro == 1
        self._simple = one and not options.two_batch_overlap and self._draft == 1.0
        self._after = (self.engine.host_step_s, self.engine.host_sequence_s, self.engine.overlaps_host)

    def _bodies(self, skew: float) -> list[Rows]:
        """Lines of each stage at one skew. Raises WorkloadError beyond the tabulated skews."""
        found = self._rows.get(skew)
        if found is None:
            skews = self.options.expert_skews
            if not skews[0] <= skew <= skews[-1]:
                raise WorkloadError(
                    where="expert_skew", given=f"{skew:g}", rule=f"the table holds {skews[0]:g} to {skews[-1]:g}",
                    way_out="build the table with TableOptions(expert_skews=...)",
                )  # fmt: skip
            found = [
                Rows(s.decode.row(skew, skews), s.prefill.row(skew, skews), s.even.row(skew, skews) if s.even else None)
                for s in self.stages
            ]
            self._rows[skew] = found
        return found

    def step_time_s(
        self,
        prefill_tokens: int = 0,
        prefill_context: int = 0,
        decode_sequences: int = 0,
        decode_kv_tokens: int = 0,
        expert_skew: float | None = None,
        prefill_sequences: int = 1,
        fill: float = 1.0,
    ) -> float:
        """Seconds of one step; see `StepLoad` for what is counted. Beyond the table's reach parts are priced exactly.

        Raises WorkloadError for negative sizes, and for an expert_skew outside the tabulated ones.
        """
        if not self._simple or expert_skew is not None or decode_sequences > self.reach.sequences:
            load = StepLoad(
                prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens, prefill_sequences, fill
            )
            return self._general(load, expert_skew)
        if prefill_tokens < 0 or prefill_context < 0 or decode_sequences < 0 or decode_kv_tokens < 0:
            StepLoad(prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens).check()
        sequences, rows, time = decode_sequences, decode_sequences * self.reach.verified, 0.0
        if decode_sequences:
            length = decode_kv_tokens / decode_sequences
            if length > self._plane.top_tokens:
                return self._general(
                    StepLoad(
                        prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens, prefill_sequences, fill
                    )
                )
            time = self._plane.at(decode_sequences, length)
        if prefill_tokens:
            tokens, box = prefill_tokens + rows, self._box
            new, past = prefill_tokens / prefill_sequences, prefill_context / prefill_sequences
            sequences += prefill_sequences
            if tokens >= len(self._prefill) or new < 1.0 or not box.holds(prefill_sequences, new, past):
                return self._general(
                    StepLoad(
                        prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens, prefill_sequences, fill
                    )
                )
            body = self._prefill[tokens]
            if fill != 1.0:
                StepLoad(fill=fill).check()
            if fill != 1.0 or self._uneven:
                body = self._prompts.spread_s(tokens, ceil(fill * tokens - 1e-6), self._alone(prefill_sequences, fill))
            time += body + self._head[rows + prefill_sequences] + box.at(prefill_sequences, new, past)
            eager = True
        else:
            time += self._decode[rows] + self._head[rows]
            eager = decode_sequences > self._largest_graph
        if eager and time < self._floor_s:
            time = self._floor_s
        host_step_s, host_sequence_s, overlaps = self._after
        host = host_step_s + host_sequence_s * sequences if sequences else 0.0
        return (time if time > host else host) if overlaps else time + host

    def _alone(self, prompts: int, fill: float) -> float:
        """Share of what one prompt's routing costs that is left when the ranks together hold so many prompts.

        Prompts prefer experts independently: the excess of the busiest rank over the mean falls as 1 / sqrt(n).
        """
        return float(max(1.0, prompts * fill * self._ranks) ** -0.5) if self._uneven else 1.0

    def _general(self, load: StepLoad, skew: float | None = None) -> float:
        return self.explain(load, skew).time_s

    def step_times_s(
        self,
        prefill_tokens: ArrayLike = 0,
        prefill_context: ArrayLike = 0,
        decode_sequences: ArrayLike = 0,
        decode_kv_tokens: ArrayLike = 0,
        expert_skew: float | None = None,
        prefill_sequences: ArrayLike = 1,
    ) -> Array:
        """`step_time_s` of every element of arrays that broadcast together."""
        given = (prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens, prefill_sequences)
        arrays = np.broadcast_arrays(*(np.asarray(a) for a in given))
        flat = [np.ravel(a) for a in arrays]
        out = np.empty(flat[0].size)
        prefills = bool(np.any(flat[0]))
        for start in range(0, out.size, CHUNK):
            part = slice(start, start + CHUNK)
            out[part] = self._chunk([a[part] for a in flat], expert_skew, prefills)
        return out.reshape(arrays[0].shape)

    def _chunk(self, given: list[NDArray[np.generic]], skew: float | None, prefills: bool) -> Array:
        new, past, decodes, kv, prompts = (a.astype(np.float64) for a in given)
        inside = self._inside(new, past, decodes, kv, prompts, prefills=prefills)
        if not (self._simple and skew is None and inside.all()):
            out = np.empty(new.size)
            usable = inside if self._simple and skew is None else np.zeros(new.size, dtype=bool)
            if usable.any():
                out[usable] = self._chunk([a[usable] for a in given], skew, prefills)
            for k in np.flatnonzero(~usable):
                load = StepLoad(int(new[k]), int(past[k]), int(decodes[k]), int(kv[k]), int(prompts[k]))
                out[k] = self._general(load, skew)
            return out
        lines = self._bodies(self.options.expert_skews[0])[0]
        drafted = decodes * self.reach.verified
        time = self._plane.many(np.maximum(decodes, 1.0), kv / np.maximum(decodes, 1.0))
        if not decodes.all():
            time[decodes == 0] = 0.0
        rows, body = drafted, lines.decode.time_s.take(drafted.astype(np.intp))
        eager, sequences = decodes > self._largest_graph, decodes
        if prefills:
            mixed = np.flatnonzero(new)
            n, p = new[mixed], prompts[mixed]
            time[mixed] += self._box.many(p, n / p, past[mixed] / p)
            at = (n + drafted[mixed]).astype(np.intp)
            body[mixed] = lines.prefill.time_s.take(at)
            if lines.even is not None:
                even = lines.even.time_s.take(at)
                body[mixed] = even + (body[mixed] - even) * np.maximum(1.0, p * self._ranks) ** -0.5
            rows, sequences = drafted.copy(), decodes.copy()
            rows[mixed] += p
            sequences[mixed] += p
            eager[mixed] = True
        time += body
        time += self.stages[0].head.take(rows.astype(np.intp))
        time = np.where(eager & (rows > 0), np.maximum(time, self._floor_s), time)
        return host_joined_s(self.engine, time, sequences)

    def _inside(
        self, new: Array, past: Array, decodes: Array, kv: Array, prompts: Array, *, prefills: bool
    ) -> NDArray[np.bool_]:
        if new.size and min(new.min(), past.min(), decodes.min(), kv.min()) < 0:
            raise WorkloadError(where="step", given="an array", rule="tokens and sequences are not negative")
        inside = (decodes <= self.reach.sequences) & (kv <= decodes * self._plane.top_tokens)
        if prefills:
            box = self._box
            fits = (prompts >= 1) & (prompts <= box.top_prompts) & (new >= prompts) & (new <= prompts * box.top_new)
            fits &= (past <= prompts * box.top_cached) & (new + decodes * self.reach.verified <= self.reach.tokens)
            inside &= fits | (new == 0)
        return np.asarray(inside)

    def explain(self, load: StepLoad, expert_skew: float | None = None) -> StepAnswer:
        """The step's parts, summed over pipeline stages, with provenance and expected error."""
        return self._answer(load, expert_skew, cycle=False)

    def stage_time_s(self, load: StepLoad, expert_skew: float | None = None) -> float:
        """Seconds between two micro-batches that follow each other: the slowest stage's time, host included."""
        return self._answer(load, expert_skew, cycle=True).time_s

    def synchronised_step_time_s(self, loads: Many[StepLoad], expert_skew: float | None = None) -> float:
        """A step of data-parallel attention ranks that meet in each expert layer: all wait for the slowest attention.

        The body runs over the most tokens of any rank (engines pad the others up to it), so the time is that of one
        rank with the largest of each part.
        """
        answers = [self.explain(load, expert_skew) for load in loads]
        if not answers:
            return 0.0
        attention = max(a.prefill_attention_s + a.decode_attention_s for a in answers)
        device = attention + max(a.body_s for a in answers) + max(a.head_s for a in answers)
        host = max(a.host_s for a in answers)
        busy = max(device, max(a.time_s for a in answers) if any(a.launch_bound for a in answers) else 0.0)
        return max(busy, host) if self.engine.overlaps_host else busy + host

    def exact_step_time_s(self, load: StepLoad, expert_skew: float | None = None) -> float:
        """The same step priced op by op, whatever the table holds."""
        return self._answer(load, expert_skew, cycle=False, exact=True).time_s

    def _answer(self, load: StepLoad, skew: float | None, *, cycle: bool, exact: bool = False) -> StepAnswer:
        load.check()
        shared = self._micro_load(load)
        chosen = self.options.expert_skews[0] if skew is None else skew
        bodies = self._bodies(chosen)
        times, parts, beyond, waits = [], [], exact, False
        for k, stage in enumerate(self.stages):
            found, outside = self._parts(k, bodies[k], shared, chosen, exact=exact)
            beyond |= outside
            busy, waited = self._busy_s(k, shared, found)
            waits |= waited
            times.append((busy * self._draft, stage.times))
            parts.append((found, stage.times))
        slowest = max(t for t, _ in times)
        device = slowest if cycle else sum(t * n for t, n in times) + (self._micro - 1) * slowest
        sequences = load.decode_sequences + (load.prefill_sequences if load.prefill_tokens else 0)
        host = self.engine.host_s(sequences) if sequences else 0.0
        total = max(device, host) if self.engine.overlaps_host else device + host
        sums = [float(sum(p[i].time_s * n for p, n in parts)) for i in range(4)]
        weight = sum(sums)
        error = sum(p[i].time_s * n * p[i].error for p, n in parts for i in range(4)) / weight if weight else 0.0
        body, prefill, decode, head = sums
        provenance = "exact" if beyond else "tabulated"
        trust = float(np.hypot(error, self.engine.error))
        return StepAnswer(total, body, prefill, decode, head, host, waits, provenance, trust)

    def _micro_load(self, load: StepLoad) -> StepLoad:
        """One micro-batch's even share of the batch."""
        m = self._micro
        if m == 1:
            return load
        prompts = min(-(-load.prefill_sequences // m), max(1, -(-load.prefill_tokens // m)))
        return StepLoad(
            -(-load.prefill_tokens // m), -(-load.prefill_context // m), -(-load.decode_sequences // m),
            -(-load.decode_kv_tokens // m), prompts, load.fill,
        )  # fmt: skip

    def _busy_s(self, k: int, load: StepLoad, parts: tuple[Part, Part, Part, Part]) -> tuple[float, bool]:
        body, prefill, decode, head = parts
        attention = prefill.time_s + decode.time_s
        if self.options.two_batch_overlap:
            sms = self.direct.setup.device.sm_count
            slowed = sms / (sms - self.options.communication_sms)
            busy = overlapped_s(body, attention, self.stages[k].layers, slowed) + head.time_s
        else:
            busy = body.time_s + attention + head.time_s
        eager = bool(load.prefill_tokens) or load.decode_sequences > self._largest_graph
        return device_s(busy, self._eager_s[k] if eager and busy else 0.0)

    def _parts(
        self, k: int, rows: Rows, load: StepLoad, skew: float, *, exact: bool
    ) -> tuple[tuple[Part, Part, Part, Part], bool]:
        """(body, prefill attention, decode attention, head) of one stage, and whether any lay beyond the table."""
        stage, direct = self.stages[k], self.direct
        drafted = load.decode_sequences * self.reach.verified
        tokens, sampled = load.prefill_tokens + drafted, drafted
        decode = not load.prefill_tokens
        beyond = False
        alone = self._alone(load.prefill_sequences, load.fill)
        mean = tokens if decode else ceil(load.fill * tokens - 1e-6)
        error = direct.body(stage.index, 1, decode, self.options.expert_skews[0]).error
        if tokens <= self.reach.tokens and not exact:
            halves = -(-tokens // 2) if self.options.two_batch_overlap else tokens
            body = rows.part(tokens, mean, halves, error, None if decode else alone)
        else:
            body, beyond = self._exact_body(k, tokens, decode, skew, alone), True
            if mean < tokens:
                body = evened(body, self._exact_body(k, mean, decode, skew, alone))
        prefill = decoded = Part(0.0, 0.0, 0.0, 0.0)
        if load.prefill_tokens:
            prompts = load.prefill_sequences
            sampled += prompts
            new, past = load.prefill_tokens / prompts, load.prefill_context / prompts
            if stage.box.holds(prompts, new, past) and not exact:
                time = stage.box.at(prompts, new, past)
                prefill = Part(time, time, 0.0, direct.prefill_attention(stage.index, 64, 0, 1).error)
            else:
                prefill, beyond = direct.prefill_attention(stage.index, round(new), round(past), prompts), True
        if load.decode_sequences:
            n, length = load.decode_sequences, load.decode_kv_tokens / load.decode_sequences
            if stage.plane.holds(n, length) and not exact:
                time = stage.plane.at(n, length)
                decoded = Part(time, time, 0.0, direct.decode_attention(stage.index, 1, 64, self.reach.verified).error)
            else:
                decoded = direct.decode_attention(stage.index, n, load.decode_kv_tokens, self.reach.verified)
                beyond = True
        if sampled < len(stage.head) and not exact:
            time = float(stage.head[sampled])
            head = Part(time, time, 0.0, 0.0)
        else:
            head, beyond = direct.head(stage.index, sampled), True
        return (body, prefill, decoded, head), beyond

    def _exact_body(self, k: int, tokens: int, decode: bool, skew: float, alone: float) -> Part:
        lonely = self.options.skew_of(skew, decode=decode)
        body = self._exact_at(k, tokens, decode, lonely)
        even = lonely == skew or alone == 1.0
        return body if even else blended(body, self._exact_at(k, tokens, decode, skew), alone)

    def _exact_at(self, k: int, tokens: int, decode: bool, skew: float) -> Part:
        stage, direct, verified = self.stages[k], self.direct, self.reach.verified
        padded = self.engine.padded(-(-tokens // verified)) if decode and tokens else None
        runs = padded * verified if padded is not None and padded * verified <= self.reach.tokens else tokens
        whole = direct.body(stage.index, runs, decode, skew)
        if not self.options.two_batch_overlap:
            return whole
        half = direct.body(stage.index, -(-runs // 2), decode, skew)
        return Part(whole.time_s, half.compute_s, half.comm_s, whole.error, whole.launches)
