"""The best plan of a small case by trying all: exact for given output lengths.

Tried is every sequence of stages that a valid plan can have: which unfinished LLMs run, each at which tp on which GPUs
(GPUs that a change of numbers inside an island, or of whole islands, makes the same count once), which running
replicas are kept, and which LLM's finish ends the stage. A branch is left when the least that is still to do ends no
sooner than the best plan known, or when the same state was reached no later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound_charges import DECODE, LONGEST, PROMPT, SLOT, alone, charges, longest_step_s
from samullm_tui.planner.bound_path import finishes
from samullm_tui.planner.bound_prefixes import Tokens
from samullm_tui.planner.bound_tokens import computed_tokens
from samullm_tui.planner.graph import llm_graph
from samullm_tui.simulate.application import Problem, Progress, StageTrace, simulate_plan, simulate_stage

__all__ = ["Exact", "TooLarge", "best_plan"]

SIMULATIONS = 60_000
"""More than the cases of the tests take."""


class TooLarge(Exception):  # noqa: N818
    """The case takes more simulations than a test can wait for."""


@dataclass(frozen=True)
class Exact:
    plan: Plan
    makespan_s: float
    simulations: int


def best_plan(
    problem: Problem, output_tokens: IntArray, known: Sequence[Plan] = (), *, any_lengths: bool = False
) -> Exact:
    """No valid plan is faster; with `any_lengths` none of those whose stages all end for other lengths too, which is what
    planners promise, as nobody knows lengths beforehand. `known` plans only make it quicker. Raises TooLarge.
    """
    search = _Search(problem, output_tokens, any_lengths=any_lengths)
    for plan in known:
        makespan_s = simulate_plan(problem, plan, output_tokens).makespan_s
        if makespan_s < search.best_s:
            search.best_s, search.best = makespan_s, plan.stages
    search.go_on(Progress.fresh(problem), frozenset(), 0.0, ())
    return Exact(Plan(planner="exact", stages=search.best), search.best_s, search.simulations)


class _Search:
    """Depth first over stages; `best_s` is the makespan of the best plan so far."""

    def __init__(self, problem: Problem, output_tokens: IntArray, *, any_lengths: bool) -> None:
        self.problem = problem
        self.output_tokens = output_tokens
        self.any_lengths = any_lengths
        self.best_s = np.inf
        self.best: tuple[Stage, ...] = ()
        self.simulations = 0
        self.reached_s: dict[tuple[object, ...], float] = {}
        self.graph = llm_graph(problem.table)
        self.feeders = _feeders(problem)
        self.rest = _Rest(problem, output_tokens)

    def go_on(
        self, progress: Progress, running: frozenset[Replica], at_s: float, stages: tuple[Stage, ...]
    ) -> None:
        """Tries every next stage, the most promising first."""
        begun = {placement.llm for stage in stages for placement in stage.placements}
        nexts = []
        for stage, trace in self.nexts(progress, running, at_s, begun):
            if trace.progress.finished:
                if trace.end_s < self.best_s:
                    self.best_s, self.best = trace.end_s, (*stages, stage)
            elif self.is_new(trace, begun | {placement.llm for placement in stage.placements}):
                nexts.append((trace.end_s + self.rest.least_s(trace.progress, trace.replicas), stage, trace))
        for least_s, stage, trace in sorted(nexts, key=lambda one: one[0]):
            if least_s < self.best_s:
                self.go_on(trace.progress, trace.replicas, trace.end_s, (*stages, stage))

    def nexts(
        self, progress: Progress, running: frozenset[Replica], at_s: float, begun: set[str]
    ) -> Iterator[tuple[Stage, StageTrace]]:
        """Every stage that may come next, with each end that it can have, simulated."""
        left = {self.problem.llms[llm].name for llm in np.flatnonzero(progress.left(self.problem)).tolist()}
        for placements in self.assignments(left, running, begun):
            kept = running & {replica for placement in placements for replica in placement.replicas}
            if at_s + self.rest.least_s(progress, kept) >= self.best_s:
                continue
            members = {placement.llm for placement in placements}
            ending = self.ending(members, left) if self.any_lengths else members
            for placement in placements:
                if placement.llm not in ending:
                    continue
                self.simulations += 1
                if self.simulations > SIMULATIONS:
                    raise TooLarge
                stage = Stage(placements, (placement.llm,))
                try:
                    trace = simulate_stage(self.problem, self.output_tokens, progress, stage, running, at_s)
                except PlanError:  # it waits for an LLM that does not run
                    continue
                if not self.any_lengths or trace.llm_finish_s.keys() <= ending:
                    yield stage, trace

    def ending(self, members: set[str], left: set[str]) -> set[str]:
        """The LLMs of a stage that finish in it whatever the lengths are: everything that feeds them has finished, or is
        in the stage and finishes as well.
        """
        found = set(members)
        while stuck := {name for name in found if self.feeders[name] & (left - found)}:
            found -= stuck
        return found

    def is_new(self, trace: StageTrace, begun: set[str]) -> bool:
        """Whether this state was not reached as early before."""
        progress, end_s = trace.progress, trace.end_s
        late_s = np.nan_to_num(np.maximum(progress.finish_s - end_s, 0.0))
        engines = sorted(
            (
                replica.llm,
                self.island(replica),
                replica.tp,
                round(max(state.clock_s - end_s, 0.0), 9),
                state.running.tobytes(),
                state.computed.tobytes(),
                state.waiting.tobytes(),
                state.assigned.tobytes(),
            )
            for replica, state in progress.engines.items()
        )
        key = (
            progress.generated.tobytes(),
            progress.done.tobytes(),
            late_s.round(9).tobytes(),
            tuple(engines),
            frozenset(begun),
        )
        if self.reached_s.get(key, np.inf) <= end_s:
            return False
        self.reached_s[key] = end_s
        return True

    def island(self, replica: Replica) -> int:
        return next(k for k, island in enumerate(self.problem.islands) if replica.gpus[0] in island)

    def assignments(
        self, left: set[str], running: frozenset[Replica], begun: set[str]
    ) -> Iterator[tuple[Placement, ...]]:
        """Every set of placements of a stage, once for all that are the same up to the numbers of GPUs."""
        seen = set()
        names = [self.problem.llms[llm].name for unit in self.graph.units for llm in unit]
        for replicas in self.extended([name for name in names if name in left], running, ()):
            members = {replica.llm for replica in replicas}
            if not replicas or not all(self.may_start(name, members, left, begun) for name in members):
                continue
            key = tuple(
                sorted(self.description(island, replicas, running) for island in self.problem.islands)
            )
            if key not in seen:
                seen.add(key)
                yield tuple(_placement(name, replicas, running) for name in names if name in members)

    def may_start(self, name: str, members: set[str], left: set[str], begun: set[str]) -> bool:
        """Whether every source of the LLM has finished, has run before, or runs beside it."""
        sources = self.graph.sources[self.problem.index(name)]
        found = {self.problem.llms[llm].name for llm in sources}
        return all(source not in left or source in begun | members for source in found)

    def extended(
        self, names: list[str], running: frozenset[Replica], replicas: tuple[Replica, ...]
    ) -> Iterator[tuple[Replica, ...]]:
        """`replicas` and every choice for the LLMs `names`: none, or at one tp any kept and any number of new ones."""
        if not names:
            yield replicas
            return
        name, *others = names
        yield from self.extended(others, running, replicas)
        for shape in self.problem.llms[self.problem.index(name)].shapes:
            own = sorted((r for r in running if r.llm == name and r.tp == shape.tp), key=lambda r: r.gpus)
            for count in range(len(own) + 1):
                for kept in combinations(own, count):
                    for chosen in self.grown(name, shape.tp, replicas + kept, 0):
                        if len(chosen) > len(replicas):
                            yield from self.extended(others, running, chosen)

    def grown(
        self, name: str, tp: int, replicas: tuple[Replica, ...], first: int
    ) -> Iterator[tuple[Replica, ...]]:
        """`replicas`, if they do not overlap, and any number of new ones of this LLM in islands from `first` on."""
        taken = [gpu for replica in replicas for gpu in replica.gpus]
        if len(taken) > len(set(taken)):
            return
        yield replicas
        for k, island in enumerate(self.problem.islands[first:], start=first):
            free = tuple(gpu for gpu in island if gpu not in taken)
            if len(free) >= tp:
                yield from self.grown(name, tp, (*replicas, Replica(name, free[:tp])), k)

    def description(
        self, island: tuple[int, ...], replicas: tuple[Replica, ...], running: frozenset[Replica]
    ) -> tuple[object, ...]:
        here = [replica for replica in replicas if replica.gpus[0] in island]
        kept = sorted((r.llm, r.gpus) for r in here if r in running)
        return len(island), tuple(kept), tuple(sorted((r.llm, r.tp) for r in here if r not in running))


def _feeders(problem: Problem) -> dict[str, set[str]]:
    """For each LLM all others whose outputs it takes."""
    table, names = problem.table, problem.table.llm_names
    children = np.repeat(table.llm, np.diff(table.parent_start))
    found: dict[str, set[str]] = {name: set() for name in names}
    for child, source in zip(children.tolist(), table.llm[table.parents].tolist(), strict=True):
        if child != source:
            found[names[child]].add(names[source])
    return found


def _placement(name: str, replicas: tuple[Replica, ...], running: frozenset[Replica]) -> Placement:
    own = sorted((r for r in replicas if r.llm == name), key=lambda r: (r not in running, r.gpus))
    return Placement(name, own[0].tp, len(own), tuple(gpu for replica in own for gpu in replica.gpus))


class _Rest:
    """How long what is left takes at least."""

    def __init__(self, problem: Problem, output_tokens: IntArray) -> None:
        self.problem = problem
        _, self.outputs = computed_tokens(problem, output_tokens)
        requests = np.bincount(problem.table.llm, minlength=len(problem.llms))
        self.token_s, self.token_gpu_s, self.load_s, self.load_gpu_s, longest_s = np.zeros(
            (5, len(problem.llms))
        )
        ones = np.ones(1, np.int64)
        one = Tokens(ones, ones, 0 * ones, -ones)
        for k, llm in enumerate(problem.llms):
            if requests[k]:
                priced = [(shape, charges(shape, int(requests[k]), 1, 1)) for shape in llm.shapes]
                alone_s = [alone((shape,), 1, one)[1][0] for shape in llm.shapes]
                self.token_s[k] = min(alone_s)
                self.token_gpu_s[k] = min(
                    s.tp
                    * float((c[:, SLOT] + np.minimum(c[:, DECODE], c[:, PROMPT]))[c[:, LONGEST] == 0].max())
                    for s, c in priced
                )
                self.load_s[k] = min(shape.load_s for shape in llm.shapes)
                self.load_gpu_s[k] = min(shape.tp * shape.load_s for shape in llm.shapes)
                longest_s[k] = max(longest_step_s(shape, int(requests[k])) for shape in llm.shapes)
        self.longest_s = float(longest_s.max())

    def least_s(self, progress: Progress, kept: frozenset[Replica]) -> float:
        """Seconds from now, when of the running replicas only `kept` go on. A step that a stage's end cuts may count twice."""
        table, llms = self.problem.table, len(self.problem.llms)
        tokens = np.where(progress.done, 0, np.maximum(self.outputs - progress.generated, 0))
        names = {replica.llm for replica in kept}
        cold = np.array([llm.name not in names for llm in self.problem.llms])
        left = np.bincount(table.llm[~progress.done], minlength=llms) > 0
        gpu_s = (
            np.bincount(table.llm, tokens, llms) * self.token_gpu_s + self.load_gpu_s * (cold & left)
        ).sum()
        takes_s = tokens * self.token_s[table.llm]
        starts_s = np.where(cold, self.load_s, 0.0)[:, None]
        known_s = np.where(progress.done, 0.0, np.nan)
        path_s = finishes(table, takes_s[:, None], takes_s, starts_s, np.zeros(llms), known_s).max()
        twice_s = (np.count_nonzero(left) - 1) * self.longest_s
        return float(max(gpu_s / self.problem.gpus, path_s) - twice_s)
