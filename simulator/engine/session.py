"""A whole run: prefill, hand-over where pools are apart, decode; numbers and time from one simulation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf

import numpy as np
import simpy

from simulator.collectives.schedule import Schedule
from simulator.cost.floor import floor_s
from simulator.cost.price import Price
from simulator.cost.table import DirectPricer, Setup
from simulator.engine.bind import BoundProgram, Prices, bind
from simulator.engine.communicator import Communicator
from simulator.engine.deployment import Deployment, Pool
from simulator.engine.fits import pool_memory
from simulator.engine.flows import FlowNetwork
from simulator.engine.handover import HandoverRun
from simulator.engine.links import Links
from simulator.engine.log import HandoverRecord, OpRecord, StepRecord
from simulator.engine.miniature_run import MiniatureRun, begin, make_miniature
from simulator.engine.step import Machine, StepPlan, StepRun
from simulator.errors import LayoutError, NotBuiltError
from simulator.hardware.device import Device
from simulator.numeric.batch import programs_of, works_of
from simulator.numeric.rank import RankState
from simulator.numeric.run import run_step
from simulator.program.build import Program
from simulator.program.check import check
from simulator.program.memory import Memory
from simulator.program.ops import Collective, ComputeOp
from simulator.program.work import Sequence
from simulator.topology.group import GroupLinks

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class Simulation:
    """What a run leaves in memory: logs, and the miniature's runs by dtype."""

    deployment: Deployment
    ops: list[OpRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    handovers: list[HandoverRecord] = field(default_factory=list)
    memory: dict[tuple[str, int], Memory] = field(default_factory=dict)
    """(pool, rank) -> bytes."""
    miniatures: list[MiniatureRun] = field(default_factory=list)
    links: Links | None = None
    communicator: Communicator | None = None
    events: int = 0
    lengths: tuple[int, ...] = ()
    floors_s: dict[int, float] = field(default_factory=dict)
    """Step -> the least time its busiest rank needs to read and compute what it must."""


def simulate(deployment: Deployment, progress: Progress | None = None) -> Simulation:
    """Runs a deployment. Raises DoesNotFitError before any step where a GPU's memory is too small."""
    session = _Session(deployment, progress or (lambda _what, _part: None))
    return session.run()


def prompt_lengths(deployment: Deployment) -> tuple[int, ...]:
    """Full-size prompt lengths, drawn uniformly from [(1 - spread) L, L]."""
    work = deployment.workload
    if work.prompt_tokens_spread == 0.0:
        return (work.prompt_tokens,) * work.sequences
    low = max(1, round(work.prompt_tokens * (1.0 - work.prompt_tokens_spread)))
    rng = np.random.default_rng([work.seed, 2])
    return tuple(int(n) for n in rng.integers(low, work.prompt_tokens + 1, work.sequences))


class _Session:
    def __init__(self, deployment: Deployment, progress: Progress) -> None:
        self.deployment, self.progress = deployment, progress
        self.env = simpy.Environment()
        self.links = Links(deployment.cluster)
        library = deployment.engine.all_reduce if deployment.engine else "nccl"
        self.comm = Communicator(deployment.cluster, deployment.algorithms, library)
        self.flows = None
        if deployment.fidelity == "flow":
            self.flows = FlowNetwork(self.env, deployment.cluster, self.links, deployment.faults)
        self.result = Simulation(deployment, links=self.links, communicator=self.comm)
        self.result.lengths = prompt_lengths(deployment)
        self.machines: dict[str, Machine] = {}
        self.states: dict[str, list[RankState]] = {}
        """Pool -> what its ranks hold of the miniature that is simulated with time."""
        self.prefill_pool, self.decode_pool = _roles(deployment)

    def run(self) -> Simulation:
        """All steps, in order."""
        numbers, architecture = self.deployment.numbers, self.deployment.architecture
        if numbers.enabled and architecture.numbers_refused:
            raise NotBuiltError(
                where="numbers", given=architecture.name, rule=architecture.numbers_refused, way_out="set numbers: off"
            )
        for pool in self.deployment.pools:
            programs = self._full_programs(pool, 0 if pool is self.prefill_pool else 1)
            memories = pool_memory(self.deployment, pool, programs, decodes=pool is self.decode_pool)
            self.result.memory.update(((pool.name, rank), memory) for rank, memory in enumerate(memories))
        if numbers.enabled:
            self.progress("reference", 0.0)
            parts = make_miniature(architecture, numbers, self._depth())
            self.result.miniatures = [begin(parts, dtype, teacher=i > 0) for i, dtype in enumerate(numbers.dtypes)]
        total = 1 + self.deployment.workload.decode_steps
        for step in range(total):
            self.progress("prefill" if step == 0 else f"decode step {step}", step / total)
            self._step(step)
        for miniature in self.result.miniatures[1:]:
            self.progress(f"numbers in {miniature.dtype}", 1.0)
            self._beside(miniature)
        self.result.events = _processed(self.env)
        return self.result

    def _depth(self) -> int:
        """Pipeline stages that the miniature must have layers for; pools of different depths cannot share one."""
        depths = {pool.layout.pp for pool in self.deployment.pools}
        if len(depths) > 1:
            raise NotBuiltError(
                where="pools",
                given=f"pp {sorted(depths)}",
                rule="numbers across pools of different pipeline depth are not built",
                way_out="use the same pp in both pools, or set numbers: off",
            )
        return depths.pop()

    # ---- steps ------------------------------------------------------------------------------------------------

    def _sequences(self, step: int) -> tuple[Sequence, ...]:
        return tuple(
            Sequence(i, n if step == 0 else 1, 0 if step == 0 else n + step - 1)
            for i, n in enumerate(self.result.lengths)
        )

    def _full_programs(self, pool: Pool, step: int) -> tuple[Program, ...]:
        works = tuple(tuple(work.anonymous() for work in row) for row in works_of(self._sequences(step), pool.layout))
        programs = programs_of(self.deployment.architecture, pool.layout, works, self.deployment.options)
        for program in {id(p): p for p in programs}.values():
            check(program, pool.layout)
        return programs

    def _engine_price(self, pool: Pool, device: Device) -> Callable[[ComputeOp, int], Price] | None:
        """How the deployment's engine runs an op on a pool; None where it names no engine."""
        given = self.deployment
        if given.engine is None:
            return None

        def links(axes: tuple[str, ...]) -> GroupLinks:
            return self.comm.links(tuple(pool.gpus[rank] for rank in pool.layout.groups(axes)[0]))

        setup = Setup(given.architecture, pool.layout, device, links, given.engine, given.options)
        return DirectPricer(setup).op

    def _machine(self, pool: Pool) -> Machine:
        if pool.name not in self.machines:
            device = self.deployment.cluster.device(pool.gpus[0])
            self.machines[pool.name] = Machine(
                self.env,
                self.comm,
                self.links,
                Prices(device, self._engine_price(pool, device)),
                self.result.ops,
                self.deployment.fidelity,
                self.flows,
            )
        return self.machines[pool.name]

    def _step(self, step: int) -> None:
        pool = self.prefill_pool if step == 0 else self.decode_pool
        miniature = self._miniature_for(step)
        programs = self._full_programs(pool, step)
        plan = StepPlan(
            pool.name,
            step,
            "prefill" if step == 0 else "decode",
            pool.layout,
            pool.gpus,
            self._bound(pool, programs, miniature),
        )
        comparison = None
        if miniature is not None:
            twins = tuple(b.miniature for b in plan.programs if b.miniature is not None)
            plan.states, plan.tokens = self._states(pool, miniature), miniature.tokens
            comparison = plan.probe = miniature.comparison(pool, step, twins)
        start_s = self.env.now
        run = StepRun(self._machine(pool), plan)
        self._until(self.env.process(run.run()))
        if run.unfinished:
            raise run.stalled()
        device = self.deployment.cluster.device(pool.gpus[0])
        distinct = {id(program): program for program in programs}.values()
        self.result.floors_s[step] = max(floor_s(program, device) for program in distinct)
        tokens = sum(sequence.new for sequence in self._sequences(step))
        self.result.steps.append(StepRecord(step, plan.phase, pool.name, start_s, self.env.now, tokens))
        if miniature is not None and comparison is not None:
            miniature.finish(pool, step, run.sampled(), comparison.errors)
        if step == 0 and self.decode_pool is not self.prefill_pool:
            self._hand_over(miniature)

    def _until(self, process: simpy.Process) -> None:
        """Runs until the process ends, or nothing is left to do; what is due later (a fault) moves no clock."""
        while not process.processed and self.env.peek() < inf:  # what failed in it is raised as it is processed
            self.env.step()

    def _miniature_for(self, step: int) -> MiniatureRun | None:
        if not self.result.miniatures or step > self.deployment.numbers.decode_steps:
            return None
        return self.result.miniatures[0]

    def _bound(
        self, pool: Pool, programs: tuple[Program, ...], miniature: MiniatureRun | None
    ) -> tuple[BoundProgram, ...]:
        twins = miniature.programs(pool, self.deployment.options) if miniature else (None,) * len(programs)
        kept = miniature.kept if miniature else ()
        found: dict[tuple[int, int], BoundProgram] = {}
        bound = []
        for program, twin in zip(programs, twins, strict=True):
            key = (id(program), id(twin))
            if key not in found:
                found[key] = bind(program, twin, kept)
            bound.append(found[key])
        return tuple(bound)

    def _states(self, pool: Pool, miniature: MiniatureRun) -> list[RankState]:
        if pool.name not in self.states:
            self.states[pool.name] = miniature.states(pool)
        return self.states[pool.name]

    def _hand_over(self, miniature: MiniatureRun | None) -> None:
        run = HandoverRun(self.deployment, self.prefill_pool, self.decode_pool, self.comm, self.links, self.flows)
        states = None
        if miniature is not None:
            states = (self._states(self.prefill_pool, miniature), self._states(self.decode_pool, miniature))
        self._until(self.env.process(run.run(self.env, dict(enumerate(self.result.lengths)), miniature, states)))
        self.result.handovers = run.records

    # ---- other dtypes -----------------------------------------------------------------------------------------

    def _beside(self, miniature: MiniatureRun) -> None:
        """The same steps in a rounded dtype, without time, with the reduction order of the chosen algorithms."""
        prefill, decode = self.prefill_pool, self.decode_pool
        states = miniature.states(prefill)
        later = states if prefill is decode else miniature.states(decode)
        for step in range(min(self.deployment.numbers.decode_steps, self.deployment.workload.decode_steps) + 1):
            pool = prefill if step == 0 else decode
            programs = miniature.programs(pool, self.deployment.options)
            comparison = miniature.comparison(pool, step, programs)
            used = states if step == 0 else later
            pick = partial(_pick, self.comm, pool)
            sampled = run_step(programs, used, miniature.tokens, pick=pick, probe=comparison)
            if step == 0 and prefill is not decode:
                HandoverRun(self.deployment, prefill, decode, self.comm, self.links).numbers(miniature, (states, later))
            miniature.finish(pool, step, sampled, comparison.errors)


def _pick(comm: Communicator, pool: Pool, op: Collective, group: tuple[int, ...]) -> Schedule:
    return comm.schedule(op, tuple(pool.gpus[rank] for rank in group))


def _roles(deployment: Deployment) -> tuple[Pool, Pool]:
    """The pool that prefills and the one that decodes (the same where one pool does both)."""
    roles = {pool.role: pool for pool in deployment.pools}
    if "mixed" in roles and len(deployment.pools) == 1:
        return roles["mixed"], roles["mixed"]
    if set(roles) == {"prefill", "decode"} and len(deployment.pools) == 2:
        return roles["prefill"], roles["decode"]
    raise LayoutError(
        where="pools",
        given=", ".join(f"{pool.name}: {pool.role}" for pool in deployment.pools),
        rule="a scenario has one mixed pool, or one prefill and one decode pool",
    )


def _processed(env: simpy.Environment) -> int:
    """Events the simulation scheduled: SimPy numbers them as they are scheduled."""
    return next(env._eid)
