"""What a stage would achieve, estimated quickly: the planner compares hundreds of stages before it takes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ParamSpec

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound import upstream_tokens
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.planner.pins import StageStart, pinned
from samullm_tui.planner.replay import Replays
from samullm_tui.planner.shapes import Size, check_fits, pack
from samullm_tui.simulate.application import Problem, Progress, simulate_stage
from samullm_tui.simulate.engine import simulate_requests

__all__ = ["Estimate", "Outlook", "Task"]

P = ParamSpec("P")
Floats = npt.NDArray[np.float64]
MANY = 3000
"""An LLM with more requests is judged by one replica's share: the longest request matters less there."""


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
    """What stays the same while a plan is made: problem, lengths, and what follows from them.

    Raises PlacementError when an LLM fits nowhere, or when LLMs that can only run together do not fit together.
    """

    problem: Problem
    output_tokens: IntArray
    graph: LLMGraph = field(init=False)
    prompts: IntArray = field(init=False)
    flops_per_token: Floats = field(init=False)
    own_parents: frozenset[int] = field(init=False)
    estimates: dict[tuple[object, ...], Estimate] = field(init=False, default_factory=dict)
    replays: Replays = field(init=False)
    plans: dict[str, Plan] = field(init=False, default_factory=dict)
    _fits: dict[tuple[object, ...], bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        table = self.problem.table
        self.graph = llm_graph(table)
        self.replays = Replays(self.problem)
        check_fits(self.problem, self.graph.units)
        self.prompts = table.prompt_tokens + upstream_tokens(table, self.output_tokens)
        per_token = np.array([llm.flops_per_token for llm in self.problem.llms])
        self.flops_per_token = per_token[table.llm]
        children = np.repeat(table.llm, np.diff(table.parent_start))
        self.own_parents = frozenset(np.unique(children[children == table.llm[table.parents]]).tolist())

    def fits(self, wanted: Mapping[int, Size]) -> bool:
        """Whether an empty cluster can hold these placements together."""
        pinned = {self.problem.llms[llm].name: size for llm, size in wanted.items() if self._pinned(llm)}
        sizes = tuple(sorted(size for llm, size in wanted.items() if not self._pinned(llm)))
        key = (sizes, tuple(sorted(pinned.items())))
        if key not in self._fits:
            anonymous = {str(k): size for k, size in enumerate(sizes)}
            few_enough = sum(size.gpus for size in wanted.values()) <= self.problem.gpus
            self._fits[key] = few_enough and pack(self.problem, pinned | anonymous) is not None
        return self._fits[key]

    def _pinned(self, llm: int) -> bool:
        return self.problem.llms[llm].name in self.problem.pins

    def place(self, wanted: Mapping[int, Size], running: frozenset[Replica]) -> tuple[Placement, ...]:
        """GPUs for placements that fit."""
        names = {self.problem.llms[llm].name: size for llm, size in wanted.items()}
        placements = pack(self.problem, names, running)
        assert placements is not None, "only what fits is chosen"
        return placements


class Outlook:
    """The situation at the start of a stage: what is left, and which replicas run."""

    def __init__(self, task: Task, progress: Progress, running: frozenset[Replica], stage: int = 1) -> None:
        """`stage` counts the stages of the plan from 1."""
        self.task = task
        self.progress = progress
        self.running = running
        self.left = frozenset(np.flatnonzero(progress.left(task.problem)).tolist())
        self.held, self.due = pinned(
            task.problem, task.graph, StageStart(stage, self.left, frozenset(self.sizes()))
        )
        self._seen: dict[Part, Estimate] = {}

    def name(self, llm: int) -> str:
        return self.task.problem.llms[llm].name

    def sizes(self) -> dict[int, Size]:
        """The present sizes of the unfinished LLMs that run."""
        replicas = {llm: [r for r in self.running if r.llm == self.name(llm)] for llm in sorted(self.left)}
        return {llm: Size(some[0].tp, len(some)) for llm, some in replicas.items() if some}

    def warm(self, llm: int, size: Size) -> int:
        """How many replicas of this size run already."""
        name = self.name(llm)
        return min(size.dp, sum(r.llm == name and r.tp == size.tp for r in self.running))

    def may_start(self, unit: tuple[int, ...], beside: Mapping[int, Size]) -> bool:
        """Whether every source of the unit is finished or among `beside`, and no pin holds it back."""
        return self.held.isdisjoint(unit) and all(
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
        if self._waits(llm):
            return self._remembered(("share", llm, size, self._state(llm, size)), self._of_share, llm, size)
        return self.estimate(((llm, size),))

    def from_start(self, llm: int, size: Size) -> Estimate:
        """As `alone`, but with every replica simulated where requests are few: there the longest one decides."""
        many = self.progress.left(self.task.problem)[llm] > MANY
        return self.alone(llm, size) if many else self.exact(llm, size)

    def exact(self, llm: int, size: Size) -> Estimate:
        """As `alone`, but with every replica simulated; those that run already go on while others load."""
        if self._waits(llm):
            return self.alone(llm, size)
        part = ((llm, size),)
        return self._remembered(("stage", part, (self._state(llm, size),)), self._of_stage, part)

    def _waits(self, llm: int) -> bool:
        return len(self.task.graph.unit_of(llm)) > 1 or bool(self.task.graph.sources[llm] & self.left)

    def _remembered(
        self, key: tuple[object, ...], make: Callable[P, Estimate], *args: P.args, **kwargs: P.kwargs
    ) -> Estimate:
        if key not in self.task.estimates:
            self.task.estimates[key] = make(*args, **kwargs)
        return self.task.estimates[key]

    def estimate(self, part: Part) -> Estimate:
        """Simulated once for each part, what is left of it, and which of its replicas run already."""
        if part not in self._seen:
            state = tuple(self._state(llm, size) for llm, size in part)
            (llm, size), *others = part
            if others or llm in self.task.own_parents:
                self._seen[part] = self._remembered(("stage", part, *state), self._of_stage, part)
            else:
                self._seen[part] = self._remembered(("share", llm, size, *state), self._of_share, llm, size)
        return self._seen[part]

    def _state(self, llm: int, size: Size) -> tuple[object, ...]:
        mine = self.task.problem.table.llm == llm
        done, generated = self.progress.done[mine], self.progress.generated[mine]
        return self.warm(llm, size), done.tobytes(), generated.tobytes()

    def _flops(self, requests: IntArray) -> Floats:
        """[k] useful FLOPs left: the outputs still to come, and the prompts of requests that have none yet."""
        task, generated = self.task, self.progress.generated[requests]
        prompts = np.where(generated == 0, task.prompts[requests], 0)
        tokens = prompts + np.maximum(task.output_tokens[requests] - generated, 0)
        left: Floats = task.flops_per_token[requests] * tokens
        return left

    def _of_share(self, llm: int, size: Size) -> Estimate:
        """One LLM as if all its requests were ready: one replica serving its share."""
        task, progress = self.task, self.progress
        mine = np.flatnonzero((task.problem.table.llm == llm) & ~progress.done)
        flops = float(self._flops(mine).sum())
        share = mine[:: size.dp]
        model = task.problem.llms[llm].shape(size.tp)
        prompts = task.prompts[share] + progress.generated[share]
        outputs = np.maximum(1, task.output_tokens[share] - progress.generated[share])
        served = prompts + outputs <= model.config.most_tokens
        prompts, outputs = prompts[served], outputs[served]
        trace = simulate_requests(model.config, model.latency, np.zeros(len(prompts)), prompts, outputs)
        times = np.sort(trace.finish_s)
        load_s = 0.0 if self.warm(llm, size) == size.dp else model.load_s
        return _estimate(load_s + times, np.full(len(times), flops / max(len(times), 1)), load_s)

    def _of_stage(self, part: Part) -> Estimate:
        """LLMs that feed each other, or whose requests wait for each other: that part of the stage simulated."""
        task = self.task
        wanted = dict(part)
        at_s = float(np.max(self.progress.finish_s, initial=0.0, where=self.progress.done))
        stage = Stage(task.place(wanted, self.running), tuple(self.name(llm) for llm in wanted))
        trace = simulate_stage(task.problem, task.output_tokens, self.progress, stage, self.running, at_s)
        new = np.flatnonzero(trace.progress.done & ~self.progress.done)
        order = new[np.argsort(trace.progress.finish_s[new], kind="stable")]
        finish_s = {llm: trace.llm_finish_s.get(self.name(llm), trace.end_s) for llm in wanted}
        first = min(max(finish_s[llm] for llm in unit) for unit in self.heads(wanted))
        times = trace.progress.finish_s[order] - at_s
        return _estimate(times, self._flops(order), 0.0, first - at_s)


def _estimate(times_s: Floats, flops: Floats, start_s: float, first_end_s: float | None = None) -> Estimate:
    end_s = max(float(times_s[-1]) if len(times_s) else start_s, 1e-9)
    return Estimate(
        end_s=end_s,
        first_end_s=max(end_s if first_end_s is None else first_end_s, 1e-9),
        times_s=np.concatenate(([start_s], times_s)),
        flops=np.concatenate(([0.0], np.cumsum(flops))),
    )
