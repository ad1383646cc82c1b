"""Whole applications: many engines at once, stage by stage.

A step in progress when its stage ends is finished: its tokens count, and a request that it ends has a `finish_s`
less than one step after the stage's end. Between two stages an engine that goes on is written down whole: it does
what it would have done without the stage's end, as long as it keeps its requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.errors import Problem as Wrong
from samullm_tui.domain.plan import Plan, Replica, Span, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.between import idle, take_over, written_down
from samullm_tui.simulate.dealing import deal
from samullm_tui.simulate.graph import Links, no_links
from samullm_tui.simulate.options import set_options
from samullm_tui.simulate.problem import (
    Beginning,
    EngineState,
    LLMModel,
    PlanTrace,
    Problem,
    Progress,
    ShapeModel,
    StageTrace,
)
from samullm_tui.simulate.state import (
    BUSY,
    CLOCK,
    END,
    LEFT,
    LLM,
    PHASE,
    REFUSALS,
    REFUSED,
    State,
    allocate,
)
from samullm_tui.simulate.together import arrivals, collect, link_served, number, place, serve, split
from samullm_tui.simulate.work import EngineWork, works

__all__ = [
    "Beginning",
    "LLMModel",
    "PlanSoFar",
    "PlanTrace",
    "Problem",
    "Progress",
    "ShapeModel",
    "StageTrace",
    "simulate_plan",
    "simulate_stage",
]


def simulate_stage(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    stage: Stage,
    warm: frozenset[Replica],
    start_s: float,
    *,
    until: tuple[str, ...] | None = None,
    in_place: bool = False,
) -> StageTrace:
    """One stage from start_s, until the LLMs of `until` (default: the stage's own) have finished all requests.

    `warm` are the replicas that run before it; those that the stage has too are kept, others are gone. With nothing
    left to wait for the stage does not take place: no time passes and everything stays as it is.
    Neither `progress` nor anything in it is changed, unless `in_place` says that nobody needs it any more: then the
    trace's has its arrays. Raises PlanError when the stage cannot be or never ends.
    """
    check(problem, stage)
    left = progress.left(problem)
    targets = np.zeros(len(problem.llms), np.int64)
    targets[[problem.index(name) for name in (stage.until if until is None else until)]] = 1
    if not (left[targets == 1] > 0).any():
        return StageTrace(start_s, start_s, progress, (), {}, 0, 0.0, warm)
    replicas = stage.replicas
    shapes = [problem.llms[problem.index(r.llm)].shape(r.tp) for r in replicas]
    kept = {r: progress.engines.get(r, idle(start_s)) for r in replicas if r in warm}
    engine_of = deal(problem, output_tokens, progress, replicas, kept, left, start_s)
    served, row_of = rows(engine_of, replicas, kept)
    s = stage_state(problem, output_tokens, progress, shapes, engine_of, served, row_of)
    s.llm[:, LEFT] = left
    ready_s = ready_times_s(replicas, shapes, kept, start_s)
    s.clock[:, CLOCK] = ready_s
    for replica, state in kept.items():
        take_over(s, replicas.index(replica), state, start_s, row_of)
    arrivals(s)
    engine_llm = np.array([problem.index(r.llm) for r in replicas], np.int64)
    end_s = ended_s(problem, s, targets, float(serve(s, engine_llm, targets, np.zeros(len(replicas)))))
    lives = zip(replicas, ready_s, strict=True)
    return StageTrace(
        start_s=start_s,
        end_s=end_s,
        progress=progress_after(s, progress if in_place else progress.copy(), replicas, served),
        spans=tuple(Span(r.llm, r.gpus, start_s, at_s, end_s) for r, at_s in lives),
        llm_finish_s=llm_finishes(problem, s, left),
        loads=len(replicas) - len(kept),
        gpu_busy_s=busy_s(s, replicas, shapes, kept),
        replicas=frozenset(replicas),
        work=works(s, replicas),
    )


def simulate_plan(
    problem: Problem, plan: Plan, output_tokens: IntArray, beginning: Beginning | None = None
) -> PlanTrace:
    """All stages from `beginning`; without one from time 0 with nothing running. The last stage goes on until
    everything is finished.

    A stage whose LLMs are finished before it begins does not take place. Raises PlanError for a plan that never
    finishes, or that is not possible on these GPUs and shapes.
    """
    done = PlanSoFar(beginning.copy() if beginning else Beginning.fresh(problem))
    for index, stage in enumerate(plan.stages):
        last = index == len(plan.stages) - 1
        until = problem.table.llm_names if last else stage.until
        done.add(stage, stage_of_plan(problem, output_tokens, done.beginning, stage, until, index))
    return done.trace()


def stage_of_plan(
    problem: Problem,
    output_tokens: IntArray,
    now: Beginning,
    stage: Stage,
    until: tuple[str, ...],
    index: int,
) -> StageTrace:
    """`simulate_stage` in place, whose errors name the stage."""
    begin = (now.progress, stage, now.running, now.at_s)
    try:
        return simulate_stage(problem, output_tokens, *begin, until=until, in_place=True)
    except PlanError as error:
        where = f"stage {index + 1}"
        raise PlanError(
            [Wrong(p.file, f"{where}: {p.place}", p.wrong, p.right) for p in error.problems]
        ) from None


def check(problem: Problem, stage: Stage) -> None:
    """Raises PlanError for GPUs that are not there, used twice, or not tp × dp."""
    used: set[int] = set()
    wrong: list[Wrong] = []
    for placement in stage.placements:
        if len(placement.gpus) != placement.tp * placement.dp:
            count = f"{len(placement.gpus)} GPUs for tp {placement.tp} × dp {placement.dp}"
            wrong.append(Wrong("", placement.llm, f"has {count}", f"{placement.tp * placement.dp}"))
        if any(gpu not in range(problem.gpus) for gpu in placement.gpus):
            wrong.append(
                Wrong("", placement.llm, f"has GPUs {placement.gpus}", f"GPUs 0 to {problem.gpus - 1}")
            )
        if used & set(placement.gpus) or len(set(placement.gpus)) < len(placement.gpus):
            wrong.append(Wrong("", placement.llm, f"has GPUs {placement.gpus}", "each GPU once in a stage"))
        used |= set(placement.gpus)
    if wrong:
        raise PlanError(wrong)


def rows(
    engine_of: IntArray, replicas: Sequence[Replica], kept: Mapping[Replica, EngineState]
) -> tuple[IntArray, IntArray]:
    """Which requests are served, and the row [n] of each, -1 of others. Those that only leave their engine are added to
    `engine_of`.
    """
    for e, replica in enumerate(replicas):
        if replica in kept:
            engine_of[kept[replica].leaving] = e
    served, row_of = np.empty_like(engine_of), np.empty_like(engine_of)
    return served[: number(engine_of, served, row_of)].copy(), row_of


def ready_times_s(
    replicas: Sequence[Replica],
    shapes: Sequence[ShapeModel],
    kept: Mapping[Replica, EngineState],
    start_s: float,
) -> list[float]:
    """When each replica serves: what runs already at once, others after their load."""
    loads_s = (0.0 if r in kept else shape.load_s for r, shape in zip(replicas, shapes, strict=True))
    return [start_s + load_s for load_s in loads_s]


def stage_state(
    problem: Problem,
    output_tokens: IntArray,
    progress: Progress,
    shapes: Sequence[ShapeModel],
    engine_of: IntArray,
    served: IntArray,
    row_of: IntArray,
) -> State:
    """The requests that are served as they stand, on fresh engines of these shapes. Row i is request served[i]."""
    table = problem.table
    engines = [(shape.config, shape.latency) for shape in shapes]
    caching = any(shape.config.prefix_caching for shape in shapes)
    shared = problem.shared(output_tokens) if caching else None
    output_tokens = np.ascontiguousarray(output_tokens, np.int64)
    slots = shared.slots if shared else 0
    links = served_links(problem.links, served, row_of)
    longest = int(output_tokens.max())
    s = allocate(len(served), engines, llms=len(problem.llms), links=links, longest=longest, slots=slots)
    graph = (table.parent_start, table.parents, table.fed)
    sizes = (table.llm, table.prompt_tokens, output_tokens)
    place(s, served, engine_of, *sizes, *graph, progress.done, progress.generated, progress.finish_s)
    if any(not shape.config.plain for shape in shapes):
        set_options(s, served, output_tokens, table.max_tokens, shared, problem.priority)
    return s


def served_links(links: Links, served: IntArray, row_of: IntArray) -> Links:
    """The links among the requests that are served, by their rows."""
    if not len(links.children):
        return no_links(len(served))
    some = Links(np.empty(len(served) + 1, np.int64), np.empty_like(links.children))
    link_served(served, row_of, links.start, links.children, some.start, some.children)
    return some


def ended_s(problem: Problem, s: State, targets: IntArray, end_s: float) -> float:
    """When the stage is over whose targets have finished at `end_s`: then, or when the steps in progress have finished
    everything else too. Raises PlanError when an engine's KV cache is too small for a request, or it never ends.
    """
    if s.misc[REFUSALS]:
        large = s.req[:, PHASE] == REFUSED
        llm = problem.llms[int(s.req[large, LLM][0])].name
        what = f"{int(large.sum())} requests are larger than the KV cache of its engine"
        raise PlanError(Wrong("", llm, what, "a larger tp, or a smaller context"))
    if end_s < 0:
        open_llms = [
            Wrong("", model.name, f"{int(left)} requests never finish", "run the LLM and all that feed it")
            for model, left, target in zip(problem.llms, s.llm[:, LEFT], targets, strict=True)
            if target and left
        ]
        raise PlanError(open_llms)
    return end_s if s.llm[:, LEFT].any() else float(s.llm[:, END].max())


def progress_after(s: State, before: Progress, replicas: Sequence[Replica], served: IntArray) -> Progress:
    """What the kernels have done, written into the arrays of `before`. When everything is finished no engine has a
    state.
    """
    done, generated, finish_s = before.done, before.generated, before.finish_s
    left = s.llm[:, LEFT].astype(np.int64)
    engine_of = np.empty(len(served), np.int64)
    starts = np.zeros(len(replicas) + 1, np.int64)
    collect(s, served, done, generated, finish_s, engine_of, starts)
    if not left.any():
        return Progress(done, generated, finish_s, unfinished=left)
    np.cumsum(starts, out=starts)
    assigned = np.empty(starts[-1], np.int64)
    ends = starts[1:].tolist()
    split(served, engine_of, starts[:-1], assigned)
    states = written_down(s, served, np.split(assigned, ends[:-1]))
    engines = dict(zip(replicas, states, strict=True))
    return Progress(done, generated, finish_s, engines, left)


def llm_finishes(problem: Problem, s: State, left: IntArray) -> dict[str, float]:
    """When each LLM finished that had requests `left` before the stage and has none now."""
    finished = np.flatnonzero((left > 0) & (s.llm[:, LEFT] == 0))
    return {problem.llms[llm].name: float(s.llm[llm, END]) for llm in finished.tolist()}


def busy_s(
    s: State, replicas: Sequence[Replica], shapes: Sequence[ShapeModel], kept: Mapping[Replica, EngineState]
) -> float:
    """GPU-seconds of all steps, and of the whole loads of the replicas that are new."""
    loads_s = ready_times_s(replicas, shapes, kept, 0.0)
    return sum((float(s.clock[e, BUSY]) + loads_s[e]) * r.tp for e, r in enumerate(replicas))


class PlanSoFar:
    """The stages of a plan that were simulated, one after another."""

    def __init__(self, beginning: Beginning) -> None:
        """`beginning` is where the next stage begins."""
        self.beginning = beginning
        self._times: list[tuple[float, float]] = []
        self._kept: list[tuple[bool, ...]] = []
        self._work: list[tuple[EngineWork, ...]] = []
        self._spans = Spans()
        self._loads, self._gpu_busy_s = 0, 0.0

    def add(self, stage: Stage, trace: StageTrace) -> None:
        warm = self.beginning.running
        self._kept.append(tuple(all(r in warm for r in placement.replicas) for placement in stage.placements))
        self._spans.add(trace, warm)
        self._times.append((trace.start_s, trace.end_s))
        self._work.append(trace.work)
        self._loads += trace.loads
        self._gpu_busy_s += trace.gpu_busy_s
        self.beginning = Beginning(trace.progress, trace.replicas, trace.end_s)

    def trace(self) -> PlanTrace:
        """Of the whole plan. Raises PlanError when it does not finish everything."""
        progress = self.beginning.progress
        if not progress.finished:
            raise PlanError(Wrong("", "stages", "there is no stage", "at least one that runs every LLM"))
        return PlanTrace(
            makespan_s=self.beginning.at_s,
            stage_times=tuple(self._times),
            spans=self._spans.all(),
            loads=self._loads,
            gpu_busy_s=self._gpu_busy_s,
            finish_s=progress.finish_s,
            kept=tuple(self._kept),
            refused=progress.refused,
            work=tuple(self._work),
        )


class Spans:
    """The lives of engines over all stages: a kept engine has one span."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._open: dict[tuple[str, tuple[int, ...]], int] = {}

    def add(self, trace: StageTrace, warm: frozenset[Replica]) -> None:
        before = self._open
        if trace.spans:
            self._open = {}
        for span in trace.spans:
            key = (span.llm, span.gpus)
            if Replica(*key) in warm and key in before:
                place = before[key]
                self._spans[place] = replace(self._spans[place], end_s=span.end_s)
            else:
                place = len(self._spans)
                self._spans.append(span)
            self._open[key] = place

    def all(self) -> tuple[Span, ...]:
        """An engine that was stopped before it was ready has no `ready_s`."""
        return tuple(replace(s, ready_s=None) if late(s) else s for s in self._spans)


def late(span: Span) -> bool:
    return span.ready_s is not None and span.end_s is not None and span.ready_s > span.end_s
