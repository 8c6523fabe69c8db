"""One design, looked at: memory, best case, and steady-state curves in each role. A task of the search."""

from dataclasses import dataclass
from math import inf

from simulator.cost.table import Setup, StepTable
from simulator.cost.table.direct import DirectPricer
from simulator.engine.server import REQUEST_S, ROUTING_SKEW, TOKEN_S, Server, kv_memory_bytes, memory_for
from simulator.errors import DoesNotFitError, ShardsimError
from simulator.model.architecture import MixtureOfExperts
from simulator.planning.coarse import coarse_table
from simulator.planning.designs import Design, alone, brief, setup_of
from simulator.planning.handover import transfer_s
from simulator.planning.piped import Piped, piped
from simulator.planning.question import Question
from simulator.planning.result import Constraint, Role, Status
from simulator.planning.steady import Batch, Curve, Replica, prefill_curve, serving_curve
from simulator.serving.policy import find_policy


@dataclass(frozen=True, slots=True)
class Assessed:
    """One design with one pair of batch limits in one role."""

    design: Design
    role: Role
    max_sequences: int
    max_batched_tokens: int
    status: Status
    """"no_memory", "bound", "misses" or "scored"."""
    reason: str
    binding: Constraint
    curve: Curve | None
    kv_tokens: float = 0.0
    """That a lane's KV memory holds."""
    best_s: float = 0.0
    """What misses the limit in the best case, where that is why it was refused."""


HIDDEN = 0.5
"""Of a step's time, at least, when half a batch computes while the other communicates."""


def front_s(question: Question) -> float:
    """What a mean request takes before the scheduler sees it: HTTP, tokeniser, queue (engine/server.py)."""
    return REQUEST_S + TOKEN_S * question.traffic.mean_input


def families(designs: tuple[Design, ...]) -> tuple[tuple[Design, ...], ...]:
    """Designs that differ in nothing but pp share a step-time table, and so a task."""
    found: dict[Design, list[Design]] = {}
    for design in designs:
        found.setdefault(alone(design), []).append(design)
    return tuple(tuple(members) for members in found.values())


def assess(task: tuple[Question, tuple[Design, ...]]) -> tuple[Assessed, ...]:
    """What each design of a family can do in each role that the question allows, for each pair of batch limits."""
    question, family = task
    space = question.space
    roles: list[Role] = ["mixed"] if "aggregated" in space.modes else []
    roles += ["prefill", "decode"] if "separated" in space.modes else []
    found: list[Assessed] = []
    alive: list[tuple[Design, float]] = []
    for design in family:
        tokens = _memory(question, design)
        if isinstance(tokens, float):
            alive.append((design, tokens))
        else:
            found += [_refused(question, design, role, *tokens) for role in roles]
    if alive:
        found += _alive(question, alive, roles)
    return tuple(found)


Why = tuple[Status, str, Constraint]


def _memory(question: Question, design: Design) -> float | Why:
    """Tokens of KV that a lane holds, or why it cannot hold even one request."""
    try:
        setup = setup_of(question, design)
        tokens = lane_tokens(setup, kv_memory_bytes(setup), question)
    except DoesNotFitError as error:
        return "no_memory", f"{error.given}: none is left for KV", "kv_memory"
    except ShardsimError as error:
        return "illegal", brief(error), "layout"
    longest = question.traffic.input_tokens + question.traffic.output_tokens
    if tokens < longest:
        return "no_memory", f"KV memory holds {tokens:.0f} tokens a rank, and one request needs {longest}", "kv_memory"
    return tokens


def _alive(question: Question, alive: list[tuple[Design, float]], roles: list[Role]) -> list[Assessed]:
    """Those that fit into memory: refused where their best case misses a limit, else with their curves."""
    first = alive[0][0]
    direct = DirectPricer(setup_of(question, alone(first)))
    try:
        hopeless = {role: best_case(question, direct, role) for role in roles}
        found = [_refused(question, d, role, "bound", *why) for role, why in hopeless.items() if why for d, _ in alive]
        able = [role for role in roles if not hopeless[role]]
        if able:
            table = table_for(question, direct)
            for design, tokens in alive:
                found += _curves(question, design, table, tokens, able)
    except ShardsimError as error:
        return [_refused(question, d, role, "illegal", brief(error), "layout") for role in roles for d, _ in alive]
    return found


def _curves(question: Question, design: Design, table: StepTable, tokens: float, roles: list[Role]) -> list[Assessed]:
    steps = piped(table, question.platforms[design.platform], design.layout)
    space = question.space
    limits = [(s, t) for s in space.max_sequences for t in space.max_batched_tokens]
    return [
        _curve(question, design, steps, Batch(*pair, tokens), role)
        for role in roles
        for pair in (limits if role != "prefill" else [(space.max_sequences[0], t) for t in space.max_batched_tokens])
    ]


def _refused(
    question: Question,
    design: Design,
    role: Role,
    status: Status,
    reason: str,
    binding: Constraint,
    best_s: float = 0.0,
) -> Assessed:
    space = question.space
    return Assessed(
        design, role, space.max_sequences[0], space.max_batched_tokens[0], status, reason, binding, None, 0.0, best_s
    )  # fmt: skip


def lane_tokens(setup: Setup, kv_bytes: float, question: Question) -> float:
    """Tokens of KV that one lane holds: an attention rank's, shared by the batches in its pipeline."""
    policy = find_policy(setup_engine(setup))
    longest = question.traffic.input_tokens + question.traffic.output_tokens
    blocks = memory_for(Server(setup, None, kv_bytes), policy, longest)  # type: ignore[arg-type]
    return blocks.capacity * blocks.block_tokens / setup.layout.pp


def setup_engine(setup: Setup) -> str:
    """The scheduler's name of a setup's engine."""
    return {"tensorrtllm": "tensorrt-llm"}.get(
        name := "".join(c for c in setup.engine.name.lower() if c.isalpha()), name
    )


def skew_of(setup: Setup) -> float:
    """How unevenly experts are busy: as real routers are."""
    moe = any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in setup.architecture.distinct_layers)
    return ROUTING_SKEW if moe else 0.0


def best_case(question: Question, direct: DirectPricer, role: Role) -> tuple[str, Constraint, float] | None:
    """Why not even one request on an idle replica is served within the limits; None: it is."""
    slo, traffic = question.slo, question.traffic
    skew = skew_of(direct.setup)
    if role != "prefill" and slo.tpot_s is not None:
        length = round(traffic.mean_input + traffic.mean_output / 2)
        best, draft = 0.0, question.speculation
        verified = 1 + draft.tokens if draft else 1
        for s in direct.stages:
            attention = direct.decode_attention(s.index, 1, length, verified).time_s
            best += s.times * (direct.body(s.index, verified, True, skew).time_s + attention)
        if draft:
            best *= (1.0 + draft.tokens * draft.draft_share) / draft.tokens_per_step
        if overlapped(question, direct.setup):
            best *= HIDDEN  # at most all of the communication behind the computing
        if best > slo.tpot_s:
            return (
                f"one sequence alone takes {best * 1e3:.1f} ms a token; the limit is {slo.tpot_s * 1e3:g} ms",
                "tpot",
                best,
            )
    limit = min(slo.ttft_s or inf, slo.e2el_s or inf)
    if role != "decode" and limit < inf:
        # What every prompt begins with may be found in the cache: the rest is computed after it.
        past = question.traffic.shared_tokens
        prompt = round(traffic.mean_input) - past
        best = 0.0
        for s in direct.stages:
            attention = direct.prefill_attention(s.index, prompt, past, 1).time_s
            best += s.times * (direct.body(s.index, prompt, False, skew).time_s + attention)
        best = best * (HIDDEN if overlapped(question, direct.setup) else 1.0) + front_s(question)
        if best > limit:
            return f"a prompt alone takes {best:.3g} s; the limit is {limit:g} s", "ttft", best
    return None


def table_for(question: Question, direct: DirectPricer) -> StepTable:
    """Step times over what the question can ask for."""
    space, traffic = question.space, question.traffic
    return coarse_table(
        direct, tokens=max(space.max_batched_tokens), sequences=max(space.max_sequences) + 1,
        context=traffic.input_tokens + traffic.output_tokens, skew=skew_of(direct.setup),
        overlap=overlapped(question, direct.setup), speculation=question.speculation,
    )  # fmt: skip


def overlapped(question: Question, setup: Setup) -> bool:
    """Whether steps run as two halves: where experts are exchanged."""
    return question.two_batch_overlap and setup.layout.ep > 1


def replica_of(design: Design, steps: Piped, batch: Batch, question: Question) -> Replica:
    """The design's replica with its lanes."""
    direct, n, policy = steps.table.direct, min(32, batch.max_sequences), find_policy(design.engine)
    length = round(question.traffic.mean_input + question.traffic.mean_output / 2)
    body = direct.body(0, n, True, skew_of(direct.setup))
    attention = direct.decode_attention(0, n, n * length, 1).time_s
    layout = design.layout
    return Replica(
        steps, layout.dp_attention * layout.pp, layout.dp_attention, layout.pp, policy.mixed, policy.chunked, batch,
        body.comm_s / (body.time_s + attention),
    )  # fmt: skip


def _curve(question: Question, design: Design, steps: Piped, batch: Batch, role: Role) -> Assessed:
    replica = replica_of(design, steps, batch, question)
    if role == "prefill":
        platform, tokens = question.platforms[design.platform], round(question.traffic.mean_input)
        moved_s = transfer_s(setup_of(question, design), platform, design.engine, tokens)
        curve = prefill_curve(replica, question, moved_s + front_s(question))
    else:
        curve = serving_curve(replica, question, role, front_s(question) if role == "mixed" else 0.0)
    sequences, budget, room = batch.max_sequences, batch.max_batched_tokens, batch.kv_tokens
    if curve.held > 0.0:
        return Assessed(design, role, sequences, budget, "scored", "", curve.binding, curve, room)
    status: Status = "bound" if curve.best_load == 0.0 else "misses"
    return Assessed(
        design, role, sequences, budget, status,
        f"{_WHY[curve.binding]} at any load", curve.binding, curve if curve.best_load > 0.0 else None, room,
    )  # fmt: skip


_WHY: dict[Constraint, str] = {
    "kv_memory": "KV memory does not hold the sequences there are", "ttft": "the first token comes too late",
    "tpot": "tokens come too slowly", "e2el": "answers take too long", "link": "communication takes too long",
    "batch": "the batch limit holds too few sequences", "compute": "prompts take all the time",
    "gpu_count": "there are too few GPUs", "layout": "the layout is refused",
}  # fmt: skip
