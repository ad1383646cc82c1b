"""What a stage would achieve, estimated quickly: the planner compares hundreds of stages before it takes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Placement, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound import upstream_tokens
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.planner.shapes import Size, check_fits, pack
from samullm_tui.simulate.application import Problem, Progress, simulate_stage
from samullm_tui.simulate.engine import simulate_requests

__all__ = ["Estimate", "Outlook", "Task"]

Floats = npt.NDArray[np.float64]
SHARE = 2000
"""Most requests simulated to estimate one replica's share; a longer share is a sample of it, its time scaled up."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One part of a stage that depends on nothing else in the stage. Seconds from the stage's start.

    end_s        all its LLMs have finished
    first_end_s  the first of its LLMs without a source in the stage has finished
    times_s, flops   [k] finishes in order, and the useful FLOPs of all requests finished by then
    """

    end_s: float
    first_end_s: float
    times_s: Floats
    flops: Floats

    def flops_by(self, at_s: float) -> float:
        """Useful FLOPs done by `at_s`; between two finishes in proportion to time."""
        return float(np.interp(at_s, self.times_s, self.flops))

    @property
    def rate(self) -> float:
        """Useful FLOPs per second from the start of its load to its own end."""
        return float(self.flops[-1]) / self.end_s


Part = tuple[tuple[int, Size], ...]


@dataclass
class Task:
    """What stays the same while a plan is made: problem, lengths, and what follows from them."""

    problem: Problem
    output_tokens: IntArray
    graph: LLMGraph = field(init=False)
    prompts: IntArray = field(init=False)
    flops: Floats = field(init=False)
    own_parents: frozenset[int] = field(init=False)
    _fits: dict[tuple[Size, ...], bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        table = self.problem.table
        self.graph = llm_graph(table)
        check_fits(self.problem, [llm for unit in self.graph.units for llm in unit])
        self.prompts = table.prompt_tokens + upstream_tokens(table, self.output_tokens)
        per_token = np.array([llm.flops_per_token for llm in self.problem.llms])
        self.flops = per_token[table.llm] * (self.prompts + self.output_tokens)
        children = np.repeat(table.llm, np.diff(table.parent_start))
        self.own_parents = frozenset(np.unique(children[children == table.llm[table.parents]]).tolist())

    def fits(self, wanted: Mapping[int, Size]) -> bool:
        """Whether an empty cluster can hold these placements together."""
        key = tuple(sorted(wanted.values()))
        if key not in self._fits:
            anonymous = {str(k): size for k, size in enumerate(key)}
            few_enough = sum(size.gpus for size in key) <= self.problem.gpus
            self._fits[key] = few_enough and pack(self.problem, anonymous) is not None
        return self._fits[key]

    def place(self, wanted: Mapping[int, Size], running: frozenset[Replica]) -> tuple[Placement, ...]:
        """GPUs for placements that fit."""
        names = {self.problem.llms[llm].name: size for llm, size in wanted.items()}
        placements = pack(self.problem, names, running)
        assert placements is not None, "only what fits is chosen"
        return placements


class Outlook:
    """The situation at the start of a stage: what is left, and which replicas run."""

    def __init__(self, task: Task, progress: Progress, running: frozenset[Replica]) -> None:
        self.task = task
        self.progress = progress
        self.running = running
        self.left = frozenset(np.flatnonzero(progress.left(task.problem)).tolist())
        self._estimates: dict[Part, Estimate] = {}

    def name(self, llm: int) -> str:
        return self.task.problem.llms[llm].name

    def warm(self, llm: int, size: Size) -> int:
        """How many replicas of this size run already."""
        name = self.name(llm)
        return min(size.dp, sum(r.llm == name and r.tp == size.tp for r in self.running))

    def may_start(self, unit: tuple[int, ...], beside: Mapping[int, Size]) -> bool:
        """Whether every source of the unit is finished or among `beside`."""
        return all(
            source not in self.left or source in beside for source in self.task.graph.unit_sources(unit)
        )

    def heads(self, wanted: Mapping[int, Size]) -> tuple[tuple[int, ...], ...]:
        """The units of a stage that have no source inside the stage, their finished LLMs left out."""
        units = {self.task.graph.unit_of(llm) for llm in wanted}
        heads = sorted(unit for unit in units if not self.task.graph.unit_sources(unit) & wanted.keys())
        return tuple(tuple(llm for llm in unit if llm in self.left) for unit in heads)

    def parts(self, wanted: Mapping[int, Size]) -> list[Part]:
        """The stage split into parts that exchange no outputs."""
        groups: list[set[int]] = []
        for llm in sorted(wanted):
            sources = self.task.graph.sources[llm] | set(self.task.graph.unit_of(llm))
            joined = {llm} | (sources & wanted.keys())
            touching = [group for group in groups if group & joined]
            groups = [group for group in groups if not group & joined]
            groups.append(joined.union(*touching))
        return [tuple((llm, wanted[llm]) for llm in sorted(group)) for group in groups]

    def estimates(self, wanted: Mapping[int, Size]) -> list[Estimate]:
        return [self.estimate(part) for part in self.parts(wanted)]

    def alone(self, llm: int, size: Size) -> Estimate:
        """One LLM by itself, as if what its unfinished sources give were there already."""
        unit = self.task.graph.unit_of(llm)
        waits = len(unit) > 1 or self.task.graph.sources[llm] & self.left
        return self._of_share(llm, size) if waits else self.estimate(((llm, size),))

    def estimate(self, part: Part) -> Estimate:
        found = self._estimates.get(part)
        if found is None:
            (llm, size), *others = part
            alone = not others and llm not in self.task.own_parents
            found = self._of_share(llm, size) if alone else self._of_stage(part)
            self._estimates[part] = found
        return found

    def _of_share(self, llm: int, size: Size) -> Estimate:
        """One LLM whose requests are all ready: one replica serving its share."""
        task, progress = self.task, self.progress
        mine = np.flatnonzero((task.problem.table.llm == llm) & ~progress.done)
        flops = float(task.flops[mine].sum())
        share = mine[:: size.dp]
        sample = share[:: max(1, -(-len(share) // SHARE))]
        model = task.problem.llms[llm].shape(size.tp)
        prompts = task.prompts[sample] + progress.generated[sample]
        outputs = np.maximum(1, task.output_tokens[sample] - progress.generated[sample])
        served = prompts + outputs <= model.config.most_tokens
        prompts, outputs = prompts[served], outputs[served]
        trace = simulate_requests(model.config, model.latency, np.zeros(len(prompts)), prompts, outputs)
        times = np.sort(trace.finish_s) * (len(share) / len(sample))
        load_s = 0.0 if self.warm(llm, size) == size.dp else model.load_s
        return _estimate(load_s + times, np.full(len(times), flops / max(len(times), 1)), load_s)

    def _of_stage(self, part: Part) -> Estimate:
        """LLMs that feed each other, or whose requests wait for each other: that part of the stage simulated."""
        task = self.task
        wanted = dict(part)
        stage = Stage(task.place(wanted, self.running), tuple(self.name(llm) for llm in wanted))
        trace = simulate_stage(task.problem, task.output_tokens, self.progress, stage, self.running, 0.0)
        new = np.flatnonzero(trace.progress.done & ~self.progress.done)
        order = new[np.argsort(trace.progress.finish_s[new], kind="stable")]
        finish_s = {llm: trace.llm_finish_s.get(self.name(llm), trace.end_s) for llm in wanted}
        first = min(max(finish_s[llm] for llm in unit) for unit in self.heads(wanted))
        times = trace.progress.finish_s[order]
        return _estimate(times, task.flops[order], 0.0, first)


def _estimate(times_s: Floats, flops: Floats, start_s: float, first_end_s: float | None = None) -> Estimate:
    end_s = max(float(times_s[-1]) if len(times_s) else start_s, 1e-9)
    return Estimate(
        end_s=end_s,
        first_end_s=max(end_s if first_end_s is None else first_end_s, 1e-9),
        times_s=np.concatenate(([start_s], times_s)),
        flops=np.concatenate(([0.0], np.cumsum(flops))),
    )
